"""Scored latent slots stand before the answer's tokens in everything that has a position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from checks import LAYOUT, gap, make_prompts, rolled, twin
from plain import policy_with

from latentbench.carrier.mixture import Mixture
from latentbench.latent_loss.soft_ce import SoftCe
from latentbench.noise.gumbel import Gumbel
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import LossInput, LossOutput, Rollouts
from latentbench.training.update import (
    Objective,
    Scorer,
    Whole,
    part_loss,
    penalised_positions,
    sampled_log_probs,
    scored_positions,
)

LATENTS, ROWS = 3, 6


@dataclass
class Numbered:
    """A latent loss that scores slot t of row r with -(10 r + t + 1) plus the mean of what it is
    mixed of, and keeps the advantages that it was given."""

    on_policy: bool
    seen: list[torch.Tensor] = field(default_factory=list)
    scores: ClassVar[bool] = True
    fixed_inputs: ClassVar[bool] = False

    def log_probs(
        self, current: torch.Tensor, choice: Mapping[str, torch.Tensor], advantages: torch.Tensor
    ) -> torch.Tensor:
        self.seen.append(advantages)
        return NUMBERS + current.mean(dim=-1)


NUMBERS = -(10.0 * torch.arange(ROWS)[:, None] + torch.arange(LATENTS) + 1)


@pytest.fixture(scope="module")
def rollouts() -> Rollouts:
    return rolled(policy_with(twin("gpt2"), Mixture(k=4), Gumbel(top_k=6)), make_prompts(2))


def scorer_of(loss: Any) -> Scorer:
    policy = policy_with(twin("gpt2"), Mixture(k=4), Gumbel(top_k=6))
    return Scorer(policy, loss, 1.0, LAYOUT.markers.pad)


def signal_of(rollouts: Rollouts) -> torch.Tensor:
    """Another advantage at every position."""
    positions = LATENTS + rollouts.answers.text.ids.shape[1]
    return torch.arange(1.0, 1 + ROWS * positions).reshape(ROWS, positions)


def test_positions_are_slots_then_tokens(rollouts: Rollouts) -> None:
    tokens = rollouts.answers.text.mask
    slots = torch.ones(ROWS, LATENTS, dtype=tokens.dtype)
    for on_policy in (True, False):
        loss: Any = Numbered(on_policy)
        scored = torch.cat([slots, tokens], dim=1)
        assert torch.equal(scored_positions(rollouts, loss), scored)
        punished = torch.cat([slots * (not on_policy), tokens], dim=1)
        assert torch.equal(penalised_positions(rollouts, loss), punished)


def test_sampled_scores_are_slots_then_tokens(rollouts: Rollouts) -> None:
    loss: Any = Numbered(False)
    found = sampled_log_probs(rollouts, loss)
    own = rollouts.thoughts.choice["log_probs"].mean(dim=-1)
    assert gap(found[:, :LATENTS], NUMBERS + own) < 1e-6
    assert torch.equal(found[:, LATENTS:], rollouts.answers.log_probs)


def test_a_latent_loss_sees_the_advantages_of_its_slots(rollouts: Rollouts) -> None:
    loss: Any = Numbered(False)
    scorer, signal = scorer_of(loss), signal_of(rollouts)
    found = scorer.log_probs(scorer.replay(rollouts), rollouts, signal)
    (seen,) = loss.seen
    assert torch.equal(seen, signal[:, :LATENTS])
    assert gap(found[:, LATENTS:], rollouts.answers.log_probs) < 1e-5


class Kept:
    """The clipped surrogate; keeps what it was given."""

    def __call__(self, batch: LossInput) -> LossOutput:
        self.batch = batch
        return Clipped()(batch)


def objective_of(kept: Kept, loss: Any) -> Objective:
    """Reward and advantage have had their say before a part is scored."""
    unasked: Any = None
    return Objective(unasked, unasked, (), kept, loss)


@pytest.mark.parametrize("on_policy", [True, False])
def test_old_scores_of_slots_without_a_ratio_are_the_present_ones(
    rollouts: Rollouts, on_policy: bool
) -> None:
    """And constants: no gradient runs through what is divided by."""
    loss: Any = Numbered(on_policy)
    kept = Kept()
    objective = objective_of(kept, loss)
    signal, old = signal_of(rollouts), torch.full_like(signal_of(rollouts), -3.0)
    whole = Whole(ROWS, 40, 40)
    part_loss(scorer_of(loss), objective, rollouts, signal, old, whole, None, 0.0)
    batch = kept.batch
    assert not batch.old_log_probs.requires_grad and batch.log_probs.requires_grad
    assert torch.equal(batch.old_log_probs[:, LATENTS:], old[:, LATENTS:])
    present = batch.log_probs.detach() if on_policy else old
    assert torch.equal(batch.old_log_probs[:, :LATENTS], present[:, :LATENTS])
    part_loss(scorer_of(loss), objective, rollouts, signal, None, whole, None, 0.0)
    assert torch.equal(kept.batch.old_log_probs, kept.batch.log_probs.detach())
    assert not kept.batch.old_log_probs.requires_grad


def test_the_slope_of_an_on_policy_slot_is_its_advantage(rollouts: Rollouts) -> None:
    """-A/rows for each slot: with a ratio of one it is the score function."""
    kept = Kept()
    objective = objective_of(kept, SoftCe())
    signal, whole = signal_of(rollouts), Whole(ROWS, 40, 40)
    found = part_loss(
        scorer_of(SoftCe()), objective, rollouts, signal, signal * 0.0 - 2.0, whole, None, 0.0
    )
    (slopes,) = torch.autograd.grad(found.loss, kept.batch.log_probs)
    assert gap(slopes[:, :LATENTS], -signal[:, :LATENTS] / ROWS) < 1e-5
