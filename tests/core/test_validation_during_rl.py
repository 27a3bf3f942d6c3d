"""What an RL run looks at while it trains: greedy answers without noise; and which weights it ends
with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checks import LAYOUT, make_policy, make_prompts, parity, rolled, twin
from plain import policy_with

from latentbench.advantage.mean import Mean
from latentbench.carrier.mixture import Mixture
from latentbench.config.sections import AnswerConfig, RlConfig, TrainerConfig
from latentbench.data.arithmetic import Arithmetic
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.noise.gaussian import Gaussian
from latentbench.noise.gumbel import Gumbel
from latentbench.noise.none import None_
from latentbench.noise.shared_mask import SharedMask
from latentbench.policy_loss.clipped import Clipped
from latentbench.training import rl
from latentbench.training.data import TrainingData
from latentbench.training.fitting import fit
from latentbench.training.greedy import greedy_accuracy
from latentbench.training.rl import RlModule
from latentbench.training.update import Objective

ITEMS = Arithmetic(n_train=20, n_validation=6, n_test=6).load().train
QUIET = TrainerConfig(accelerator="cpu", progress="quiet", checkpoint_every=10_000)


@pytest.mark.parametrize(
    ("carrier", "noise"),
    [
        (None, SharedMask(rate=0.7, scope="all")),
        (None, Gaussian(scale=3.0)),
        (Mixture(k=5), Gumbel(scale=2.0)),
        (Mixture(k=5), Gumbel(scale=0.0, tau=0.05)),
    ],
    ids=["mask", "gaussian", "gumbel", "filter_alone"],
)
def test_validation_is_without_noise(carrier: Any, noise: Any) -> None:
    """The texts are those of greedy rollouts of the policy without any."""
    policy = policy_with(twin("gpt2"), carrier, noise)
    prompts = make_prompts(6)
    texts: list[str] = []

    def noting(text: str, gold: str) -> float:
        texts.append(text)
        return parity(text, gold)

    accuracy = greedy_accuracy(policy, prompts, LAYOUT, noting, 6, "here")
    quiet = rolled(policy.under(None_()), prompts, 1, temperature=0.0)
    assert tuple(texts) == quiet.texts
    assert accuracy == sum(parity(text, "") for text in texts) / 6
    assert quiet.texts != rolled(policy, prompts, 1, temperature=0.0).texts, "noise must matter"


@pytest.mark.parametrize("batch_rows", [1, 4, 512])
def test_accuracy_is_the_share_of_all_prompts(batch_rows: int) -> None:
    """The third, seventh and last of 9 are right, however they are cut."""
    prompts = make_prompts(9)
    gold = {prompts[place].gold for place in (2, 6, 8)}

    def right(_text: str, own: str) -> float:
        return float(own in gold)

    policy = make_policy(twin("gpt2"))
    assert greedy_accuracy(policy, prompts, LAYOUT, right, 4, "here", batch_rows) == 3 / 9


class Looking(RlModule):
    """Keeps the weights of every look."""

    def scripted(self, scores: Sequence[float], patch: pytest.MonkeyPatch) -> Looking:
        self.at_look: list[dict[str, torch.Tensor]] = []
        left = list(scores)

        def look(*_: Any) -> float:
            self.at_look.append({k: v.clone() for k, v in self.model.state_dict().items()})
            return left.pop(0)

        patch.setattr(rl, "greedy_accuracy", look)
        return self


def looking(select: str, updates: int, every: int = 1) -> Looking:
    policy = make_policy(twin("gpt2"), SharedMask(rate=0.3))
    objective = Objective(parity, Mean(), (), Clipped(), Unscored())
    config = RlConfig(
        updates=updates,
        prompts=4,
        group_size=4,
        lr=1e-3,
        validate_every=every,
        select=select,
    )
    return Looking(policy, None, LAYOUT, objective, config, AnswerConfig(1.0, 5), [], 0)


@pytest.mark.parametrize(
    ("select", "scores", "kept"),
    [
        ("validation", [0.2, 0.6, 0.4], 1),
        ("validation", [0.2, 0.6, 0.6], 1),  # the first of equals
        ("validation", [0.0, 0.0, 0.0], 0),
        ("last", [0.2, 0.6, 0.4], 2),
    ],
)
def test_a_run_ends_with_the_weights_that_it_selects(
    select: str,
    scores: list[float],
    kept: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = looking(select, 3).scripted(scores, monkeypatch)
    fit(module, TrainingData(ITEMS, 4, 3, 0), QUIET, tmp_path, "rl", loggers=[], owner={})
    end = module.model.state_dict()
    assert len(module.at_look) == 3
    same = [all(torch.equal(end[k], seen[k]) for k in end) for seen in module.at_look]
    assert same == [place == kept for place in range(3)]


def test_validation_is_due_at_every_multiple_and_at_the_end() -> None:
    module: Any = looking("last", 7, every=3)
    due = []
    for module.update in range(1, 8):
        if module._validation_is_due():
            due.append(module.update)
    assert due == [3, 6, 7]
    module.config.validate_every = 0
    assert not module._validation_is_due()
