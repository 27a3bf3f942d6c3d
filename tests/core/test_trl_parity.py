"""Our objective and TRL's, on the same tensors: one real step of TRL's GRPOTrainer is watched.

Needs the optional extra `trl`; skipped without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from latentbench.advantage.mean import Mean
from latentbench.advantage.mean_std import MeanStd
from latentbench.config import sections
from latentbench.model.tokenizer import add_markers, character_tokenizer
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import Groups, LossInput

trl = pytest.importorskip("trl", reason="the optional extra: pip install -e '.[trl]'")

# What TRL itself calls of other libraries is TRL's to mend.
pytestmark = pytest.mark.filterwarnings("default::FutureWarning", "default::DeprecationWarning")

CONF = str(Path(__file__).resolve().parents[2] / "conf")
PROMPTS, SIZE, BUDGET = 4, 4, 12
# A group that says nothing, a rare success, graded rewards, a rare failure.
REWARDS = [[1.0] * 4, [0.0, 1.0, 0.0, 0.0], [0.3, -1.0, 2.5, 0.0], [1.0, 1.0, 0.0, 1.0]]
TOLERANCE = 1e-6


class Watched(trl.GRPOTrainer):
    """TRL's trainer, its old log-probabilities moved so that ratios leave the clip range.

    Of every micro-batch it keeps what the loss was computed from, and the loss; of the generated
    batch its advantages, before rows are shuffled.
    """

    def _get_per_token_logps_and_entropies(self, *args: Any, **more: Any) -> Any:
        scored = super()._get_per_token_logps_and_entropies(*args, **more)
        if scored[0].requires_grad:
            scored[0].retain_grad()
            self.scored = scored[0]
        return scored

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        batch = super()._generate_and_score_completions(inputs)
        self.advantages = batch["advantages"]
        return batch

    def _compute_loss(self, model: Any, inputs: Any) -> torch.Tensor:
        with torch.no_grad():
            ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
            mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
            width = inputs["completion_ids"].shape[1]
            now = super()._get_per_token_logps_and_entropies(model, ids, mask, width)[0]
        old = now + torch.linspace(-2, 2, now.numel()).reshape(now.shape)
        loss = super()._compute_loss(model, inputs | {"old_per_token_logps": old})
        self.parts.append((self.scored, old, dict(inputs), loss.detach()))
        return loss


Watch = Callable[..., Watched]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """One step of TRL's trainer on a tiny random model, with given rewards."""
    from datasets import Dataset
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = character_tokenizer()
    add_markers(tokenizer)

    def reward(completions: Sequence[Any], **_more: Any) -> list[float]:
        return torch.tensor(REWARDS).flatten().tolist()[: len(completions)]

    def step(accumulation: int = 1, **options: Any) -> Watched:
        torch.manual_seed(0)
        shape: Any = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape))
        config = trl.GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=PROMPTS * SIZE // accumulation,
            gradient_accumulation_steps=accumulation,
            num_generations=SIZE,
            max_completion_length=BUDGET,
            max_steps=1,
            beta=0.0,
            seed=3,
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **options,
        )
        prompts = Dataset.from_dict({"prompt": [f"{n}+{n}=" for n in range(PROMPTS)]})
        trainer = Watched(model, reward, config, prompts, processing_class=tokenizer)
        trainer.parts = []
        trainer.train()
        return trainer

    with mock.patch.dict(os.environ):  # accelerate leaves its settings there
        yield step


def preset(*choices: str) -> Clipped:
    """An option of this repository, as a run would have it."""
    sections.register()
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose("config", [f"answer.budget={BUDGET}", *choices])
    found = OmegaConf.to_object(config.policy_loss)
    assert isinstance(found, Clipped)
    return found


def check(trainer: Watched, loss: Clipped) -> None:
    """Each micro-batch's loss and its gradient at every log-probability."""
    masks = [inputs["completion_mask"] for _, _, inputs, _ in trainer.parts]
    total_rows, total_tokens = sum(map(len, masks)), int(sum(mask.sum() for mask in masks))
    assert total_rows == PROMPTS * SIZE
    assert len({int(n) for mask in masks for n in mask.sum(dim=1)}) > 1, "answers of one length"
    clipped = 0
    for scored, old, inputs, theirs in trainer.parts:
        leaf = scored.detach().clone().requires_grad_()
        ours = loss(
            LossInput(
                log_probs=leaf,
                old_log_probs=old,
                mask=inputs["completion_mask"],
                advantages=inputs["advantages"][:, None].expand_as(leaf),
                total_rows=total_rows,
                total_tokens=total_tokens,
            )
        )
        ours.loss.backward()
        clipped += int(ours.sums["ratio_clipped"])
        assert abs(ours.loss.item() - theirs.item()) < TOLERANCE
        assert leaf.grad is not None and scored.grad is not None
        assert float((leaf.grad - scored.grad).abs().max()) < TOLERANCE
        assert float(leaf.grad.abs().max()) > 1e-3
    assert 0.1 * total_tokens < clipped < 0.9 * total_tokens


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(
    ("choices", "options"),
    [
        (["policy_loss=grpo"], {"loss_type": "grpo"}),
        (["policy_loss=dr_grpo"], {"loss_type": "dr_grpo"}),
        (["policy_loss=dapo"], {"loss_type": "dapo", "epsilon_high": 0.28}),
        (["policy_loss=dual_clip"], {"loss_type": "dapo", "delta": 3.0}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_preset_is_the_loss_of_trl(
    choices: list[str], options: dict[str, Any], accumulation: int, watch: Watch
) -> None:
    """TRL's `delta` cuts the ratio where the advantage is negative: the dual clip by its effect."""
    check(watch(accumulation, **options), preset(*choices))


def test_bnpo_of_trl_is_the_token_mean_of_one_micro_batch(watch: Watch) -> None:
    """With several it averages their means, which no sum over the batch is."""
    check(watch(loss_type="bnpo"), preset("policy_loss.aggregate=token_mean"))


@pytest.mark.parametrize(("scale", "advantage"), [("group", MeanStd()), ("none", Mean())])
def test_advantages_are_those_of_trl(scale: str, advantage: Any, watch: Watch) -> None:
    """TRL leaves a rounding error in a group of equal rewards; ours is 0 there by definition."""
    theirs = watch(scale_rewards=scale).advantages.reshape(PROMPTS, SIZE)
    rewards = torch.tensor(REWARDS)
    even = torch.zeros(4, 4)
    ours = advantage(Groups(rewards, even.bool(), even))
    assert float((ours - theirs).abs().max()) < TOLERANCE
