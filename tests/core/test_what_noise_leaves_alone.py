"""Where noise does not act twice, not everywhere alike, and not at test as at the start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from checks import LAYOUT, gap, make_prompts, philox, twin
from plain import policy_with

from latentbench.keys import Key, Purpose
from latentbench.noise import Site
from latentbench.noise._weight import normal_draws
from latentbench.noise.gaussian import Gaussian
from latentbench.noise.gaussian_weight import GaussianWeight
from latentbench.noise.none import None_
from latentbench.noise.per_step_mask import PerStepMask
from latentbench.noise.shared_mask import SharedMask
from latentbench.noise.svd_weight import SvdWeight
from latentbench.records import NoiseRecord, collate_prompts

# -- every layer has weight noise of its own -------------------------------------------------------

SHAPE = (4, 4)
VALUES = {f"value.{layer}": Site(4, torch.eye(4) + layer) for layer in range(3)}


@pytest.mark.parametrize("noise", [GaussianWeight(scale=0.1), SvdWeight()], ids=repr)
def test_layers_have_draws_of_their_own(noise: Any) -> None:
    tensors = noise.draw([Key(0, Purpose.NOISE, 0, 5, 1)], VALUES, 3).tensors
    drawn = [tensors[f"value.{layer}"] for layer in range(3)]
    for layer, one in enumerate(drawn):
        assert all(float((one - other).abs().max()) > 1e-3 for other in drawn[:layer])


def test_the_numbers_of_the_layers_follow_each_other_in_the_rows_stream() -> None:
    keys = [Key(3, Purpose.NOISE, 2, 2**40 + 1, rollout) for rollout in range(2)]
    found = normal_draws(keys, {"value.0": SHAPE, "value.1": (3,)})
    for row in range(2):
        stream = philox(3, int(Purpose.NOISE), 2, 2**40 + 1, row)
        first = stream.standard_normal(SHAPE, dtype=np.float32)
        second = stream.standard_normal(3, dtype=np.float32)
        assert np.array_equal(found["value.0"][row].numpy(), first)
        assert np.array_equal(found["value.1"][row].numpy(), second)


# -- forced thoughts are fed as they are -----------------------------------------------------------


@pytest.mark.parametrize("latents", [1, 3])
def test_forced_thoughts_are_not_disturbed_again(latents: int) -> None:
    """Stored thoughts hold their noise already; an intervention's vectors hold what it says."""
    policy = policy_with(twin("gpt2"), noise=Gaussian(scale=2.0), latents=latents)
    prompts = collate_prompts(make_prompts(3), LAYOUT.markers.pad)
    keys = [Key(0, Purpose.NOISE, 0, uid, k) for uid in prompts.uids for k in range(2)]
    record = policy.noise.draw(keys, policy.sites(), latents)
    forced = torch.randn(6, latents, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        state, thoughts = policy.latent_phase(prompts, record, 2, forced)
        quiet, _ = policy.under(None_()).latent_phase(prompts, NoiseRecord(), 2, forced)
        free, _ = policy.latent_phase(prompts, record, 2)
    assert torch.equal(thoughts.vectors, forced)
    assert gap(state.hidden, quiet.hidden) < 1e-6 and gap(state.hidden, free.hidden) > 1e-2


# -- at test a schedule has come to its end --------------------------------------------------------


@pytest.mark.parametrize("cls", [SharedMask, PerStepMask])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("rate", "end"), [(0.5, 0.2), (0.0, 0.4)])
def test_masks_at_test_have_the_rate_of_the_schedules_end(
    cls: Any, schedule: str, rate: float, end: float
) -> None:
    noise = cls(rate=rate, rate_end=end, schedule=schedule, rate_updates=10)
    sites = {"mlp.0": Site(4000)}
    masks = noise.draw([Key(0, Purpose.TEST_NOISE, 0, 7)], sites, 2).tensors["mlp.0"]
    assert masks.unique().tolist() == [0.0, float(np.float32(1) / np.float32(1 - end))]
    assert abs(float((masks == 0).float().mean()) - end) < 0.03
    first = noise.draw([Key(0, Purpose.NOISE, 0, 7)], sites, 2).tensors["mlp.0"]
    assert abs(float((first == 0).float().mean()) - rate) < 0.03
