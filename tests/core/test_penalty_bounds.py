"""The KL penalty where policy and reference are far apart: one token outweighs all others at most
by the bound."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from checks import LAYOUT, make_policy, make_prompts, rolled, twin

from latentbench.latent_loss.none import None_ as Unscored
from latentbench.training.update import Scorer, k3_towards


@pytest.mark.parametrize(
    ("difference", "expected", "slope"),
    [
        (0.5, math.exp(0.5) - 1.5, 1 - math.exp(0.5)),
        (-2.0, math.exp(-2.0) + 1.0, 1 - math.exp(-2.0)),
        (30.0, math.exp(10.0) - 11.0, 0.0),
        (-30.0, math.exp(-10.0) + 9.0, 0.0),
    ],
)
def test_a_token_s_share_is_k3_of_a_bounded_difference(
    difference: float, expected: float, slope: float
) -> None:
    """exp(d) - d - 1 with d = log ref - log policy in [-10, 10]; its slope in log policy is 1 -
    exp(d) inside and 0 beyond."""
    policy = make_policy(twin("gpt2"))
    rollouts = rolled(policy, make_prompts(2))
    scorer = Scorer(policy, Unscored(), 1.0, LAYOUT.markers.pad)
    with torch.no_grad():
        own = scorer.log_probs(scorer.replay(rollouts), rollouts, torch.zeros(6, 6))
    present: Any = own.clone()
    present[3, 0] -= difference
    present.requires_grad_()
    found = k3_towards(policy, scorer, rollouts, present, torch.zeros_like(own))
    (slopes,) = torch.autograd.grad(found, present)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-4)
    assert float(slopes[3, 0]) == pytest.approx(slope, rel=1e-4)
    slopes[3, 0] = 0.0
    assert float(slopes.abs().max()) < 1e-5


def test_the_reference_is_judged_under_the_scorers_law() -> None:
    """Its own temperature and padding are the scorer's, its weights its own."""
    policy, reference = make_policy(twin("gpt2")), make_policy(twin("gpt2", seed=1))
    rollouts = rolled(policy, make_prompts(2), temperature=0.5)
    scorer = Scorer(policy, Unscored(), 0.5, LAYOUT.markers.pad)
    signal = torch.zeros(rollouts.answers.text.ids.shape)
    with torch.no_grad():
        mine, other = (
            s.log_probs(s.replay(rollouts), rollouts, signal)
            for s in (scorer, replace(scorer, policy=reference))
        )
        apart = other - mine
        expected = ((apart.exp() - apart - 1) * rollouts.answers.text.mask).sum()
        found = k3_towards(reference, scorer, rollouts, mine, signal)
    assert float(apart.abs().max()) < 10 and float(found) == pytest.approx(float(expected))
