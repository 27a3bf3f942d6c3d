"""Noise that is not replayed: old log-probabilities are the sampler's, and ratios are not 1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checks import LAYOUT, gap, make_policy, make_prompts, rolled, twin
from test_rl_step import fitted, module_of, objective_of

from latentbench.keys import Key, Purpose
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.latent_loss.soft_ce import SoftCe
from latentbench.model.policy import fresh_draws
from latentbench.noise.native_dropout import NativeDropout
from latentbench.noise.per_step_mask import PerStepMask
from latentbench.noise.shared_mask import SharedMask
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import LossInput, LossOutput
from latentbench.training.update import Scorer, drawn_anew, part_loss, whole_of

ARMS: dict[str, Any] = {
    "native": NativeDropout(rate=0.3),
    "shared, not replayed": SharedMask(rate=0.3, replayed=False),
    "per step, not replayed": PerStepMask(rate=0.3, replayed=False),
    "shared": SharedMask(rate=0.3),
}


class Seen:
    """A surrogate that keeps what it is asked."""

    def __init__(self) -> None:
        self.batches: list[LossInput] = []

    def __call__(self, batch: LossInput) -> LossOutput:
        self.batches.append(batch)
        return Clipped()(batch)


@pytest.mark.parametrize("arm", ARMS)
def test_old_is_the_samplers_where_noise_is_not_replayed(arm: str, tmp_path: Path) -> None:
    noise, seen = ARMS[arm], Seen()
    policy = make_policy(twin("gpt2"), noise)
    module = module_of(policy, objective_of(policy_loss=seen), updates=1, inner_updates=2, lr=1e-6)
    fitted(tmp_path, module)
    rollouts = module.seen[0]
    first, second = seen.batches
    telling = rollouts.mixed().nonzero()[:, 0].tolist()
    sampled = rollouts.groups(telling).answers.log_probs
    ratio = ((first.log_probs - first.old_log_probs).exp() * first.mask).detach()
    if noise.replayed:
        assert gap(ratio, first.mask.float()) < 1e-6
    else:
        assert torch.equal(first.old_log_probs, sampled)
        outside = ((ratio - 1).abs() > 0.2) & first.mask.bool()
        assert float(outside.sum() / first.mask.sum()) > 0.1
    assert torch.equal(second.old_log_probs, first.old_log_probs)
    # Inner updates are scored under draws of their own, but for what is replayed.
    same = gap(second.log_probs.detach(), first.log_probs.detach())
    assert (same < 1e-3) == noise.replayed


@pytest.mark.parametrize("kind", [SharedMask, PerStepMask])
def test_an_update_is_under_another_draw_that_its_key_fixes(kind: Any) -> None:
    policy = make_policy(twin("gpt2"), kind(rate=0.3, replayed=False))
    rollouts = rolled(policy, make_prompts(2), 3)
    again = [drawn_anew(rollouts, policy, 5, 7, turn) for turn in (0, 1, 0)]
    for name, own in rollouts.noise.tensors.items():
        one, other, same = (scored.noise.tensors[name] for scored in again)
        assert torch.equal(one, same)
        draws = torch.cat([own, one, other]).flatten(1)
        assert len(torch.unique(draws, dim=0)) == len(draws)
    keys = [Key(5, Purpose.FRESH, 7, p.uid, 3 + k) for p in rollouts.prompts for k in range(3)]
    expected = policy.noise.draw(keys, policy.sites(), policy.latents)
    assert expected.tensors.keys() == again[0].noise.tensors.keys()
    for name, drawn in expected.tensors.items():
        assert torch.equal(drawn, again[0].noise.tensors[name])
    replayed = policy.under(kind(rate=0.3))
    assert drawn_anew(rollouts, replayed, 5, 7, 0) is rollouts


def test_a_scheduled_rate_is_that_of_the_update_also_when_drawn_anew() -> None:
    noise = SharedMask(rate=0.0, rate_end=0.9, schedule="linear", rate_updates=10, replayed=False)
    policy = make_policy(twin("gpt2"), noise)
    rollouts = rolled(policy, make_prompts(2), 3, step=0)
    assert all((m == 1).all() for m in rollouts.noise.tensors.values())
    early, late = (drawn_anew(rollouts, policy, 0, update, 0) for update in (0, 10))
    assert all((m == 1).all() for m in early.noise.tensors.values())
    assert all((m == 0).float().mean() > 0.7 for m in late.noise.tensors.values())


def test_the_embeddings_of_lepo_learn_through_the_head_alone() -> None:
    """With an untied head no gradient reaches the input embeddings; with one of ours it does."""
    from latentbench.carrier.mixture import Mixture
    from latentbench.noise.gumbel import Gumbel

    model = twin("llama")
    policy = replace(make_policy(model, Gumbel()), carrier=Mixture(k=30))
    with fresh_draws(policy.noise, Key(0, Purpose.FRESH), policy.device):
        rollouts = rolled(policy, make_prompts(2), 3)
    signal = torch.linspace(-1, 1, 6)[:, None].expand(6, 3 + rollouts.answers.text.ids.shape[1])
    slopes = []
    for loss in (SoftCe(), SoftCe(fixed_inputs=False)):
        scorer = Scorer(policy, loss, 1.0, LAYOUT.markers.pad)
        objective = objective_of(latent_loss=loss)
        whole = whole_of(rollouts, loss)
        found = part_loss(scorer, objective, rollouts, signal, None, whole, None, 0.0)
        table = model.get_input_embeddings().weight
        head = model.get_output_embeddings().weight
        slope, other = torch.autograd.grad(found.loss, [table, head], allow_unused=True)
        assert other is not None and float(other.abs().max()) > 0
        slopes.append(slope)
    assert slopes[0] is None or float(slopes[0].abs().max()) == 0.0
    assert slopes[1] is not None and float(slopes[1].abs().max()) > 0.0
    assert not Unscored().fixed_inputs
