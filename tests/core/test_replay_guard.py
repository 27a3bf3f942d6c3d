"""The guard behind the headline invariant: how far a replay is from its rollout, and what happens
then."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checks import LAYOUT, make_policy, make_prompts, parity, rolled, twin

from latentbench.advantage.mean import Mean
from latentbench.config.sections import AnswerConfig, RlConfig
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.noise.shared_mask import SharedMask
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import Rollouts
from latentbench.training.rl import RlModule
from latentbench.training.update import Objective, PartLoss, replay_gap

MASK = SharedMask(rate=0.3)


@pytest.fixture(scope="module")
def rollouts() -> Rollouts:
    return rolled(make_policy(twin("gpt2"), MASK), make_prompts(4), 4, reward=parity)


def shifted(rollouts: Rollouts, row: int, token: int, by: float) -> Rollouts:
    """Rollouts whose sampler claims another log-probability for one token."""
    log_probs = rollouts.answers.log_probs.clone()
    log_probs[row, token] += by
    return replace(rollouts, answers=replace(rollouts.answers, log_probs=log_probs))


@pytest.mark.parametrize("by", [0.25, -0.25, 3e-3])
def test_the_gap_is_the_largest_difference_of_a_scored_token(rollouts: Rollouts, by: float) -> None:
    found = PartLoss(torch.zeros(()), rollouts.answers.log_probs.clone(), torch.zeros(()), {})
    other = shifted(shifted(rollouts, 5, 0, by), 2, 0, by / 2)
    assert float(replay_gap(found, rollouts, Unscored())) == 0.0
    assert abs(float(replay_gap(found, other, Unscored())) - abs(by)) < 1e-6


def test_what_is_no_token_makes_no_gap(rollouts: Rollouts) -> None:
    row, token = (rollouts.answers.text.mask == 0).nonzero()[0].tolist()
    found = PartLoss(torch.zeros(()), rollouts.answers.log_probs.clone(), torch.zeros(()), {})
    assert float(replay_gap(found, shifted(rollouts, row, token, 1.0), Unscored())) == 0.0


def module_of(noise: Any = MASK, **changes: Any) -> Any:
    """A module outside of a trainer, whose optimizer only counts its steps."""
    policy = make_policy(twin("gpt2"), noise)
    config = RlConfig(updates=1, prompts=4, group_size=4, lr=1e-3, **changes)
    objective = Objective(parity, Mean(), (), Clipped(), Unscored())
    module: Any = RlModule(policy, None, LAYOUT, objective, config, AnswerConfig(1.0, 6), [], 0)
    module.steps = 0

    def step() -> None:
        module.steps += 1

    module.manual_backward = lambda loss: loss.backward()
    module.optimizers = lambda: SimpleNamespace(zero_grad=lambda set_to_none: None, step=step)
    module.full_precision = lambda: True
    return module


def updated(module: Any, rollouts: Rollouts) -> dict[str, float]:
    advantages = torch.ones(4, 4, rollouts.answers.text.ids.shape[1])
    return module.inner_update(rollouts, advantages, range(4), [])


@pytest.mark.parametrize("by", [0.02, -0.02, 5.0])
@pytest.mark.parametrize("row", [0, 15])
def test_a_finite_gap_stops_the_run(rollouts: Rollouts, row: int, by: float) -> None:
    """Wherever it stands among four micro-batches; no step is taken."""
    module = module_of(micro_batch=4)
    said = f"update 0: replay differs from the rollout by {abs(by):.3g} in log-probability"
    with pytest.raises(RuntimeError, match=said):
        updated(module, shifted(rollouts, row, 0, by))
    assert module.steps == 0


def test_rounding_does_not(rollouts: Rollouts) -> None:
    module = module_of(micro_batch=4)
    metrics = updated(module, shifted(rollouts, 6, 0, 5e-3))
    assert abs(metrics["train/replay_gap"] - 5e-3) < 1e-4 and module.steps == 1


def test_nor_does_what_is_computed_in_fewer_bits(rollouts: Rollouts) -> None:
    module = module_of()
    module.full_precision = lambda: False
    assert updated(module, shifted(rollouts, 6, 0, 0.5))["train/replay_gap"] > 0.4
    assert module.steps == 1
