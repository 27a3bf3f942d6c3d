"""A draw depends on its key alone, and masks have the law they claim."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from checks import check_columns, philox

from latentbench.keys import Key, Purpose, rollout_keys, uniforms
from latentbench.noise import ANSWER, PROMPT, Site
from latentbench.noise.per_step_mask import PerStepMask
from latentbench.noise.shared_mask import SharedMask

SITES = dict.fromkeys(("embedding", "attention.0", "mlp.0", "attention.1", "mlp.1"), Site(6))
MASKS = (SharedMask, PerStepMask)


def some_keys(count: int, size: int = 4) -> list[Key]:
    rng = np.random.default_rng(5)
    return rollout_keys(
        7, Purpose.NOISE, 3, [int(u) for u in rng.integers(2**63, size=count)], size
    )


def test_a_stream_is_philox_under_the_hash_of_the_words_of_its_key() -> None:
    for seed, step, uid, rollout in [(0, 0, 0, 0), (2**40 + 3, 5, 2**62 + 2**33 + 1, 15)]:
        for purpose in Purpose:
            drawn = Key(seed, purpose, step, uid, rollout).generator().random(5)
            expected = philox(seed, int(purpose), step, uid, rollout).random(5)
            assert np.array_equal(drawn, expected)


def test_a_row_of_uniforms_is_the_same_alone_in_a_batch_and_permuted() -> None:
    keys = some_keys(16)
    order = np.random.default_rng(0).permutation(len(keys))
    batch = uniforms(keys, 9)
    assert batch.shape == (64, 9) and batch.min() >= 0 and batch.max() < 1
    assert np.array_equal(uniforms([keys[i] for i in order], 9), batch[order])
    for row in (0, 1, 17, 63):
        assert np.array_equal(uniforms([keys[row]], 9)[0], batch[row])
        assert np.array_equal(uniforms([keys[row]], 4)[0], batch[row, :4])


@pytest.mark.parametrize("mask", MASKS)
def test_a_row_of_masks_is_the_same_alone_in_a_batch_and_permuted(mask: Any) -> None:
    noise, keys = mask(rate=0.5), some_keys(16)
    order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(0))
    batch = noise.draw(keys, SITES, 3).tensors
    permuted = noise.draw([keys[i] for i in order], SITES, 3).tensors
    for row in (0, 5, 63):
        alone = noise.draw([keys[row]], SITES, 3).tensors
        assert all(torch.equal(alone[site][0], batch[site][row]) for site in batch)
    assert all(torch.equal(permuted[site], batch[site][order]) for site in batch)


def test_every_part_of_a_key_matters() -> None:
    base = Key(1, Purpose.NOISE, 2, 3, 4)
    others = [
        replace(base, seed=2),
        replace(base, purpose=Purpose.ANSWER),
        replace(base, step=3),
        replace(base, prompt=4),
        replace(base, rollout=5),
    ]
    draws = [tuple(key.generator().random(4)) for key in (base, *others)]
    assert len({value for draw in draws for value in draw}) == 24


def test_no_two_neighbouring_keys_share_a_stream() -> None:
    wide = (0, 1, 2**32 - 1, 2**32, 2**32 + 1, 2**33, 2**62, 2**63 - 1)
    keys = [
        Key(seed, purpose, step, prompt, rollout)
        for seed, purpose, step, prompt, rollout in itertools.product(
            (0, 1, 2**32, 2**32 + 1), Purpose, (0, 1), wide, (0, 1)
        )
    ]
    assert len({key.integer() for key in keys}) == len(keys) == 4 * len(Purpose) * 2 * 8 * 2


def test_keys_of_a_batch_are_group_major() -> None:
    keys = rollout_keys(1, Purpose.ANSWER, 2, [30, 10], 2)
    assert [(key.prompt, key.rollout) for key in keys] == [(30, 0), (30, 1), (10, 0), (10, 1)]
    assert {(key.seed, key.purpose, key.step) for key in keys} == {(1, Purpose.ANSWER, 2)}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_features_are_kept_at_the_rate_and_rescaled(mask: Any, rate: float) -> None:
    latents = 3
    noise = mask(rate=rate)
    width = 1000 if mask is SharedMask else 200
    keys = rollout_keys(0, Purpose.NOISE, 0, range(100), 10)
    masks = noise.draw(keys, {"mlp.0": Site(width)}, latents).tensors["mlp.0"]
    assert masks.numel() == 1_000_000
    kept = (masks != 0).double()
    assert abs(float(kept.mean()) - (1 - rate)) < 4 * (rate * (1 - rate) / 1e6) ** 0.5
    assert masks[masks != 0].unique().tolist() == [np.float32(1) / np.float32(1 - rate)]
    per_feature = kept.reshape(-1, width).mean(dim=0)
    sigma = (rate * (1 - rate) * width / 1e6) ** 0.5
    assert float((per_feature - (1 - rate)).abs().max()) < 5 * sigma


def test_a_shared_mask_is_one_mask_for_every_step() -> None:
    noise = SharedMask(rate=0.4, scope="all")
    record = noise.draw(some_keys(4), SITES, 6)
    for site, masks in record.tensors.items():
        assert masks.shape == (16, 1, 6)
        for step in (PROMPT, 1, 2, 6, ANSWER):
            gain = noise.gains(record, step)[site]
            assert gain.shape == (16, 1, 6) and torch.equal(gain, masks)


def test_per_step_masks_act_in_their_own_columns() -> None:
    check_columns()


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(np.corrcoef(one.flatten().numpy(), other.flatten().numpy())[0, 1])


def test_per_step_masks_are_independent_between_steps_sites_and_rollouts() -> None:
    noise = PerStepMask(rate=0.5)
    keys = rollout_keys(0, Purpose.NOISE, 0, range(125), 8)
    record = noise.draw(keys, {"attention.0": Site(200), "mlp.0": Site(200)}, 3).tensors
    one, other = record["attention.0"], record["mlp.0"]
    for a, b in itertools.combinations(range(5), 2):
        assert abs(correlation(one[:, a], one[:, b])) < 0.01
    assert abs(correlation(one, other)) < 0.01
    assert abs(correlation(one[::2], one[1::2])) < 0.01
    assert abs(correlation(one[..., ::2], one[..., 1::2])) < 0.01


@pytest.mark.parametrize("mask", MASKS)
def test_masks_differ_between_rollouts_prompts_updates_and_seeds(mask: Any) -> None:
    noise = mask(rate=0.5)
    keys = [
        Key(seed, Purpose.NOISE, step, prompt, rollout)
        for seed, step, prompt, rollout in itertools.product((0, 1), (0, 1), (5, 6), (0, 1))
    ]
    masks = noise.draw(keys, {"mlp.0": Site(64)}, 3).tensors["mlp.0"]
    assert len({tuple(row.flatten().tolist()) for row in masks}) == len(keys)


@pytest.mark.parametrize("mask", MASKS)
def test_rate_zero_draws_nothing_and_touches_nothing(mask: Any) -> None:
    noise = mask(rate=0.0, scope="all")
    record = noise.draw(some_keys(2), SITES, 3)
    assert record.tensors == {} and noise.diverges == "answer"
    assert all(noise.gains(record, step) == {} for step in (PROMPT, 1, 3, ANSWER))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    ("scope", "prompt", "answer", "diverges"),
    [
        ("latent", False, False, "latent"),
        ("prompt+latent", True, False, "prompt"),
        ("all", True, True, "prompt"),
    ],
)
def test_a_scope_masks_its_phases_and_no_other(
    mask: Any, scope: str, prompt: bool, answer: bool, diverges: str
) -> None:
    noise = mask(rate=0.5, scope=scope)
    record = noise.draw(some_keys(2), SITES, 3)
    assert noise.diverges == diverges
    assert bool(noise.gains(record, PROMPT)) == prompt
    assert bool(noise.gains(record, ANSWER)) == answer
    assert all(noise.gains(record, step) for step in (1, 2, 3))


@pytest.mark.parametrize("mask", MASKS)
def test_only_the_chosen_sites_are_masked(mask: Any) -> None:
    for kinds in (["attention"], ["mlp"], ["embedding"], ["embedding", "mlp"]):
        record = mask(rate=0.5, sites=kinds).draw(some_keys(1), SITES, 3)
        assert set(record.tensors) == {s for s in SITES if s.split(".")[0] in kinds}


@pytest.mark.parametrize("mask", MASKS)
def test_sites_have_masks_of_their_own_unless_one_is_shared(mask: Any) -> None:
    sites = {"attention.0": Site(64), "mlp.0": Site(64), "mlp.1": Site(48)}
    own = mask(rate=0.5).draw(some_keys(1), sites, 3).tensors
    assert not torch.equal(own["attention.0"], own["mlp.0"])
    one = mask(rate=0.5, per_site=False).draw(some_keys(1), sites, 3).tensors
    assert torch.equal(one["attention.0"], one["mlp.0"])
    assert torch.equal(one["attention.0"][..., :48], one["mlp.1"])
