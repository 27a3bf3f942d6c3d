"""Rollout and replay are one law: what was sampled is scored as it was sampled."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from checks import (
    ALL_SITES,
    ALLOWED,
    FORBIDDEN,
    LATENTS,
    LAYOUT,
    check_replay,
    check_rollouts,
    gap,
    gradient_gap,
    gradients,
    make_policy,
    make_prompts,
    naive_rollout_scores,
    replayed,
    rolled,
    twin,
)
from scipy.stats import chisquare

from latentbench.keys import Key, Purpose, rollout_keys
from latentbench.model.policy import _inverse_cdf
from latentbench.noise import SCOPES, Effects, Gain, Site, kind_of
from latentbench.noise.none import None_
from latentbench.noise.per_step_mask import PerStepMask
from latentbench.noise.shared_mask import SharedMask
from latentbench.records import NoiseRecord, Rollouts, Text, collate_prompts


def every_noise() -> list[Any]:
    """No noise and the mask family, at every scope: what the naive side can compute. Every source
    with every carrier: tests/contract/test_pairs.py."""
    found = [pytest.param(None_(), id="none")]
    for name, kind in (("shared_mask", SharedMask), ("per_step_mask", PerStepMask)):
        found += [pytest.param(kind(scope=s), id=f"{name}-{s}") for s in SCOPES]
        wide: dict[str, Any] = {"rate": 0.4, "sites": ALL_SITES, "per_site": False}
        found.append(pytest.param(kind(scope="all", **wide), id=f"{name}-all-sites"))
    return found


MASKS = [
    SharedMask(rate=0.3),
    SharedMask(rate=0.3, scope="latent"),
    PerStepMask(rate=0.3),
    PerStepMask(rate=0.3, scope="all"),
]


def label(noise: Any) -> str:
    return f"{type(noise).__name__}-{getattr(noise, 'scope', '')}"


@pytest.mark.parametrize("noise", every_noise())
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_replay_scores_what_was_rolled_out(kind: str, noise: Any, temperature: float) -> None:
    rollouts = check_replay(make_policy(twin(kind), noise), make_prompts(3), temperature)
    lengths = rollouts.answers.text.mask.sum(dim=1)
    assert lengths.min() < lengths.max(), "some rows must end before others for this test"
    assert rollouts.rewards.unique().numel() == 2


@pytest.mark.parametrize("noise", every_noise())
@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_rollouts_follow_the_naive_law_at_their_own_numbers(noise: Any, temperature: float) -> None:
    check_rollouts(make_policy(twin("gpt2"), noise), make_prompts(3), temperature)


def test_greedy_text_is_scored_under_temperature_one() -> None:
    policy = make_policy(twin("gpt2"))
    rollouts = rolled(policy, make_prompts(3), temperature=0.0)
    greedy, plain = replayed(policy, rollouts, 0.0), replayed(policy, rollouts, 1.0)
    assert torch.equal(greedy.log_probs, plain.log_probs)
    assert gap(greedy.log_probs, rollouts.answers.log_probs) < 1e-5


@pytest.mark.parametrize("kind", [SharedMask, PerStepMask])
def test_rate_zero_is_no_noise_to_the_bit(kind: Any) -> None:
    model, prompts = twin("gpt2"), make_prompts(4)
    quiet, zero = make_policy(model), make_policy(model, kind(rate=0.0, scope="all"))
    one, other = rolled(quiet, prompts), rolled(zero, prompts)
    assert torch.equal(one.answers.text.ids, other.answers.text.ids)
    assert torch.equal(one.answers.log_probs, other.answers.log_probs)
    assert torch.equal(replayed(quiet, one).log_probs, replayed(zero, other).log_probs)


MASKED = ("embedding", "attention", "mlp")


@dataclass(frozen=True)
class Ones:
    """A source that acts on every masked site and changes nothing."""

    acts_on: ClassVar[tuple[str, ...]] = ()
    replayed: ClassVar[bool] = True

    @property
    def diverges(self) -> str:
        return "prompt"

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        masked = {s: torch.ones(len(keys), 1, site.width) for s, site in sites.items()}
        return NoiseRecord({s: t for s, t in masked.items() if kind_of(s) in MASKED})

    def effects(self, record: NoiseRecord, step: int) -> Effects:
        return {site: Gain(gain) for site, gain in record.tensors.items()}


def test_masks_of_ones_agree_with_the_shared_path(family: str) -> None:
    """The path that runs every rollout from its prompt on equals the one that shares all of it."""
    model, prompts = twin(family), make_prompts(3)
    quiet, ones = make_policy(model), make_policy(model, Ones())
    one, other = rolled(quiet, prompts), rolled(ones, prompts)
    assert set(other.noise.tensors) == {s for s in ones.sites() if kind_of(s) in MASKED}
    assert torch.equal(one.answers.text.ids, other.answers.text.ids)
    assert gap(one.answers.log_probs, other.answers.log_probs) <= 1e-5
    assert gap(replayed(quiet, one).log_probs, replayed(ones, other).log_probs) <= 1e-5


@pytest.mark.parametrize("noise", [None_(), MASKS[1]], ids=label)
def test_sharing_the_prefix_equals_repeating_the_prompt(family: str, noise: Any) -> None:
    """Log-probabilities and gradients of the shared path and of the prompts repeated K times."""
    policy = make_policy(twin(family), noise)
    rollouts = rolled(policy, make_prompts(3))
    shared = replayed(policy, rollouts)
    batch = collate_prompts(rollouts.prompts, LAYOUT.markers.pad).repeat(3)
    naive = policy.replay(batch, rollouts.noise, rollouts.answers.text, 1)
    assert gap(shared.log_probs, naive.log_probs) <= 1e-5
    assert gap(shared.thoughts, naive.thoughts) <= 1e-5
    weights = torch.linspace(-1, 1.5, naive.log_probs.numel()).reshape(naive.log_probs.shape)
    one = gradients(policy.model, (shared.log_probs * weights).sum())
    other = gradients(policy.model, (naive.log_probs * weights).sum())
    assert gradient_gap(one, other) <= 1e-5


def by_prompt(rollouts: Rollouts) -> dict[int, tuple[Any, ...]]:
    """What was rolled out for each prompt, without the padding that neighbours cause."""
    size, found = rollouts.group_size, {}
    for index, prompt in enumerate(rollouts.prompts):
        rows = range(index * size, (index + 1) * size)
        lengths = [int(rollouts.answers.text.mask[row].sum()) for row in rows]
        pairs = list(zip(rows, lengths, strict=True))
        found[prompt.uid] = (
            [rollouts.answers.text.ids[row, :n].tolist() for row, n in pairs],
            torch.cat([rollouts.answers.log_probs[row, :n] for row, n in pairs]),
            {site: masks[list(rows)] for site, masks in rollouts.noise.tensors.items()},
            rollouts.answers.truncated[list(rows)].tolist(),
            [rollouts.texts[row] for row in rows],
            rollouts.rewards[index].tolist(),
        )
    return found


@pytest.mark.parametrize("noise", [None_(), *MASKS], ids=label)
def test_batch_composition_changes_no_rollout(noise: Any) -> None:
    """Chunked, reordered, or with prompts left out: same masks and tokens to the bit."""
    policy, prompts = make_policy(twin("gpt2"), noise), make_prompts(6)
    whole = by_prompt(rolled(policy, prompts))
    assert len(whole) == 6
    variants = [
        rolled(policy, prompts, max_rows=1),
        rolled(policy, prompts, max_rows=7),
        rolled(policy, [prompts[i] for i in (4, 2, 0, 5, 1, 3)]),
        rolled(policy, [prompts[3]]),
        rolled(policy, prompts[1:]),
    ]
    for variant in variants:
        for uid, (ids, log_probs, masks, *rest) in by_prompt(variant).items():
            expected_ids, expected_log_probs, expected_masks, *expected_rest = whole[uid]
            assert ids == expected_ids and rest == expected_rest
            assert gap(log_probs, expected_log_probs) <= 1e-5
            assert all(torch.equal(masks[site], expected_masks[site]) for site in expected_masks)


def test_chunks_are_joined_to_the_batch_that_was_asked_for() -> None:
    policy, prompts = make_policy(twin("gpt2"), MASKS[0]), make_prompts(5)
    whole, joined = rolled(policy, prompts), rolled(policy, prompts, max_rows=6)
    assert joined.prompts == whole.prompts and joined.texts == whole.texts
    assert torch.equal(joined.rewards, whole.rewards)
    assert torch.equal(joined.answers.text.ids, whole.answers.text.ids)
    assert torch.equal(joined.answers.text.mask, whole.answers.text.mask)
    assert torch.equal(joined.answers.truncated, whole.answers.truncated)
    pairs = zip(joined.noise.tensors.items(), whole.noise.tensors.items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_more_rollouts_extend_a_group_and_leave_the_first_ones() -> None:
    policy, prompts = make_policy(twin("gpt2"), MASKS[0]), make_prompts(3)
    few, many = rolled(policy, prompts, group_size=2), rolled(policy, prompts, group_size=5)
    for uid, (ids, *_) in by_prompt(few).items():
        assert by_prompt(many)[uid][0][:2] == ids


def test_another_update_or_seed_rolls_out_otherwise() -> None:
    policy, prompts = make_policy(twin("gpt2"), MASKS[0]), make_prompts(3)
    runs = [rolled(policy, prompts, seed=s, step=u) for s, u in ((0, 0), (0, 1), (1, 0), (0, 0))]
    for one, other in itertools.combinations(runs[:3], 2):
        assert one.texts != other.texts
        assert not torch.equal(one.noise.tensors["mlp.0"], other.noise.tensors["mlp.0"])
    assert runs[0].texts == runs[3].texts


@pytest.mark.parametrize("size", [2, 3, 5, 7])
def test_without_noise_greedy_rollouts_are_identical(family: str, size: int) -> None:
    rollouts = rolled(make_policy(twin(family)), make_prompts(3), size, temperature=0.0)
    ids = rollouts.answers.text.ids.reshape(3, size, -1)
    assert (ids == ids[:, :1]).all() and not rollouts.mixed().any()
    scores = rollouts.answers.log_probs.reshape(3, size, -1)
    assert gap(scores, scores[:, :1].expand_as(scores)) < 1e-5
    assert rollouts.dispersion == 0.0


@pytest.mark.parametrize("noise", MASKS, ids=label)
def test_noise_spreads_the_thoughts_of_a_group(noise: Any) -> None:
    """Dispersion is above 0, also with greedy answers, and is the relative spread by hand of the
    states after the last slot, which one slot more would feed."""
    policy = make_policy(twin("gpt2"), noise)
    rollouts = rolled(policy, make_prompts(3), 4, temperature=0.0)
    assert (
        max(
            gap(state, row.after)
            for state, row in zip(
                rollouts.last, naive_rollout_scores(policy, rollouts, 1.0), strict=True
            )
        )
        < 1e-5
    )
    last = rollouts.last.double().numpy()
    spread = np.sqrt(last.reshape(3, 4, -1).var(axis=1, ddof=1).mean())
    expected = spread / np.sqrt((last**2).mean())
    assert rollouts.dispersion > 0.05
    assert abs(rollouts.dispersion - expected) < 1e-4


def test_forbidden_tokens_are_never_written() -> None:
    """Out of a vocabulary of a hundred, hundreds of draws and greedy choices keep to eight."""
    policy, prompts = make_policy(twin("gpt2")), make_prompts(8)
    free = replace(policy, forbidden=())
    for temperature in (1.0, 0.0):
        bound = rolled(policy, prompts, 16, temperature, budget=8).answers.text
        assert set(bound.ids[bound.mask.bool()].tolist()) <= set(ALLOWED)
        loose = rolled(free, prompts, 16, temperature, budget=8).answers.text
        assert set(loose.ids[loose.mask.bool()].tolist()) & set(FORBIDDEN)


def test_sampled_frequencies_match_the_law() -> None:
    """Inverse-CDF sampling of 10^5 keyed uniforms, with impossible tokens at both ends."""
    weights = np.array([0, 3, 0, 10, 1, 0, 0.05, 6, 0, 0])
    probabilities = weights / weights.sum()
    with np.errstate(divide="ignore"):
        law = torch.from_numpy(np.log(probabilities)).float().expand(100_000, -1)
    draws = torch.from_numpy(Key(0, Purpose.ANSWER).generator().random(100_000))
    counts = np.bincount(_inverse_cdf(law, draws).numpy(), minlength=10)
    assert counts[probabilities == 0].sum() == 0
    possible = probabilities > 0
    assert chisquare(counts[possible], 1e5 * probabilities[possible]).pvalue > 1e-3


@pytest.mark.parametrize("types", [5, 997, 50_260])
def test_the_ends_of_the_unit_interval_pick_possible_tokens(types: int) -> None:
    generator = torch.Generator().manual_seed(types)
    law = torch.randn(64, types, generator=generator) * 4
    law[:, :2] = float("-inf")
    law[:, -2:] = float("-inf")
    law = torch.log_softmax(law, dim=-1)
    ends = np.array([0.0, np.nextafter(0, 1), np.nextafter(1, 0), 1 - 2**-24, 1 - 2**-30])
    for end in ends:
        tokens = _inverse_cdf(law, torch.full((64,), end, dtype=torch.float64))
        assert torch.isfinite(law.gather(1, tokens[:, None])).all()
        if types == 5:
            assert (tokens == 2).all()


def test_a_certain_token_is_always_drawn() -> None:
    law = torch.full((3, 4), float("-inf"))
    law[:, 1] = 0.0
    draws = torch.tensor([0.0, 0.5, np.nextafter(1, 0)], dtype=torch.float64)
    assert _inverse_cdf(law, draws).tolist() == [1, 1, 1]


def test_truncated_means_no_end_of_text_within_the_budget() -> None:
    """A row whose end of text is its last token within the budget is whole; one less, and it is
    cut. Up to the cut, tokens and scores are the same."""
    policy, prompts = make_policy(twin("gpt2")), make_prompts(4)
    long = rolled(policy, prompts, budget=12)
    lengths = long.answers.text.mask.sum(dim=1)
    row = int(((lengths > 2) & (lengths < 12)).nonzero()[0, 0])
    length = int(lengths[row])
    assert not long.answers.truncated[row]
    exact = rolled(policy, prompts, budget=length).answers
    short = rolled(policy, prompts, budget=length - 1).answers
    assert int(exact.text.mask[row].sum()) == length and not exact.truncated[row]
    assert int(short.text.mask[row].sum()) == length - 1 and short.truncated[row]
    assert torch.equal(exact.text.ids[row], long.answers.text.ids[row, :length])
    assert torch.equal(short.text.ids[row], long.answers.text.ids[row, : length - 1])
    for answers, budget in ((long.answers, 12), (exact, length), (short, length - 1)):
        assert answers.truncated.tolist() == [
            policy.eos not in ids[:budget] for ids in _written(answers.text)
        ]


def _written(text: Text) -> list[list[int]]:
    return [i[: int(m.sum())].tolist() for i, m in zip(text.ids, text.mask, strict=True)]


@pytest.mark.parametrize("noise", MASKS, ids=label)
def test_another_record_breaks_the_ratio(noise: Any) -> None:
    """The guard is not blind: replaying under masks that were not drawn is seen at once."""
    policy, prompts = make_policy(twin("gpt2"), noise), make_prompts(3)
    rollouts = rolled(policy, prompts)
    keys = rollout_keys(1, Purpose.NOISE, 0, [p.uid for p in prompts], 3)
    other = policy.noise.draw(keys, policy.sites(), LATENTS)
    wrong = replayed(policy, replace(rollouts, noise=other))
    ratio = (wrong.log_probs - rollouts.answers.log_probs).exp()
    assert gap(ratio, torch.ones_like(ratio)) > 1e-2


def test_sub_batches_of_groups_keep_rows_and_records_together() -> None:
    """Groups taken out of a batch replay to the scores they had in it."""
    policy = make_policy(twin("gpt2"), MASKS[2])
    rollouts = rolled(policy, make_prompts(5))
    whole = replayed(policy, rollouts).log_probs.reshape(5, 3, -1)
    part = rollouts.groups([4, 1])
    assert part.prompts == (rollouts.prompts[4], rollouts.prompts[1])
    assert part.texts == (*rollouts.texts[12:15], *rollouts.texts[3:6])
    assert torch.equal(part.rewards, rollouts.rewards[[4, 1]])
    assert gap(replayed(policy, part).log_probs.reshape(2, 3, -1), whole[[4, 1]]) <= 1e-5
    assert gap(part.answers.log_probs.reshape(2, 3, -1), whole[[4, 1]]) <= 1e-5


def test_a_float64_model_rolls_out() -> None:
    policy = make_policy(twin("gpt2", dtype=torch.float64))
    assert rolled(policy, make_prompts(2)).answers.log_probs.isfinite().all()
