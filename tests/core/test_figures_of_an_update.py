"""What an update says of itself, against the rollouts that it saw: means over tokens where it says
tokens, over rollouts where it says rollouts."""

from __future__ import annotations

import csv
from typing import Any

import pytest
import torch
from checks import LAYOUT, naive_hidden, parity, twin, untouched
from plain import law_after, policy_with

from latentbench.advantage.mean import Mean
from latentbench.carrier.mixture import Mixture
from latentbench.config.sections import AnswerConfig, RlConfig, TrainerConfig
from latentbench.data.arithmetic import Arithmetic
from latentbench.latent_loss.soft_ce import SoftCe
from latentbench.noise.gumbel import Gumbel
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import LossInput, LossOutput, Rollouts
from latentbench.training.data import TrainingData
from latentbench.training.fitting import fit
from latentbench.training.rl import RlModule
from latentbench.training.update import Objective, whole_of

ITEMS = Arithmetic(n_train=20, n_validation=6, n_test=6).load().train
QUIET = TrainerConfig(accelerator="cpu", progress="quiet", checkpoint_every=10_000)
LATENTS = 3


class Watched(RlModule):
    """Keeps what it rolled out."""

    def sample(self, prompts: Any) -> Rollouts:
        self.seen = super().sample(prompts)
        return self.seen


class Counting:
    """The clipped surrogate; every call says that so many positions were clipped, and keeps its
    loss."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def __call__(self, batch: LossInput) -> LossOutput:
        output = Clipped()(batch)
        self.losses.append(float(output.loss.detach()))
        tokens = batch.mask.sum()
        return LossOutput(output.loss, {"ratio_clipped": tokens * 0.5, "tokens": tokens})


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, float], Watched, Counting]:
    """The row of one update whose every group is replayed, since there is a penalty."""
    carrier, noise = Mixture(k=5), Gumbel(top_k=8)
    policy, reference = (policy_with(twin("gpt2", seed=s), carrier, noise) for s in (0, 1))
    loss = Counting()
    objective = Objective(parity, Mean(), (), loss, SoftCe())
    config = RlConfig(updates=1, prompts=4, group_size=4, lr=0.0, kl=0.1, micro_batch=4)
    answer = AnswerConfig(0.8, 6)
    module = Watched(policy, reference, LAYOUT, objective, config, answer, [], 0)
    folder = tmp_path_factory.mktemp("update")
    fit(module, TrainingData(ITEMS, 4, 1, 0), QUIET, folder, "rl", loggers=[], owner={})
    with (folder / "metrics.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    return {name: float(value) for name, value in row.items() if value}, module, loss


def entropies(module: Watched) -> list[torch.Tensor]:
    """The entropy [token] of the law that each answer was written from, one row at a time."""
    rollouts, policy = module.seen, module.policy
    table = policy.model.get_input_embeddings().weight
    found = []
    for row, length in enumerate(rollouts.answers.text.mask.sum(dim=1).tolist()):
        prompt = rollouts.prompts[row // rollouts.group_size]
        text = rollouts.answers.text.ids[row, :length].tolist()
        columns = [table[token] for token in prompt.ids] + list(rollouts.thoughts.vectors[row])
        columns += [table[token] for token in (prompt.cue, *text[:-1])]
        hidden = naive_hidden(policy.model, columns, [0] * len(columns), untouched)[-length:]
        law = law_after(policy.model, hidden, policy.forbidden, 0.8).detach()
        chance = law.exp()
        found.append(-(chance * torch.where(chance > 0, law, 0.0)).sum(dim=-1))
    return found


def test_answer_entropy_is_the_mean_over_answer_tokens(update: Any) -> None:
    """Latent slots are scored positions, and no tokens of the answer."""
    figures, module, _ = update
    assert abs(figures["train/answer_entropy"] - float(torch.cat(entropies(module)).mean())) < 1e-4


def test_the_loss_is_the_sum_of_its_shares(update: Any) -> None:
    figures, _, loss = update
    assert len(loss.losses) == 4 and abs(figures["train/loss"] - sum(loss.losses)) < 1e-6


def test_clipped_ratios_are_a_share_of_scored_positions(update: Any) -> None:
    assert update[0]["train/ratio_clipped"] == pytest.approx(0.5)


def test_the_sizes_of_an_update_tell_slots_from_tokens(update: Any) -> None:
    """Soft labels are scored and not penalised."""
    rollouts = update[1].seen
    tokens = int(rollouts.answers.text.mask.sum())
    whole = whole_of(rollouts, SoftCe())
    assert (whole.rows, whole.tokens, whole.penalised) == (16, tokens + 16 * LATENTS, tokens)


def test_rewards_and_cuts_are_means_over_rollouts(update: Any) -> None:
    figures, module, _ = update
    rollouts = module.seen
    assert figures["train/reward_mean"] == pytest.approx(float(rollouts.rewards.mean()))
    cut = [
        length == 6 and text[5] != LAYOUT.markers.eos
        for length, text in zip(
            rollouts.answers.text.mask.sum(dim=1).tolist(),
            rollouts.answers.text.ids.tolist(),
            strict=True,
        )
    ]
    assert 0 < sum(cut) < 16 and figures["train/truncated"] == pytest.approx(sum(cut) / 16)
    flat = [len(set(row)) == 1 for row in rollouts.rewards.tolist()]
    assert figures["train/zero_variance_groups"] == pytest.approx(sum(flat) / 4)
