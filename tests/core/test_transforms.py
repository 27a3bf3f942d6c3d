"""Post-operations on advantages against the released rules, group by group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from latentbench.advantage.mean import Mean
from latentbench.advantage.mean_std import MeanStd
from latentbench.errors import InputError
from latentbench.records import Groups
from latentbench.transform.first_token import FirstToken
from latentbench.transform.invalid_mask import InvalidMask
from latentbench.transform.scale_positive import ScalePositive

POSITIONS = 4
ESTIMATES = pytest.mark.parametrize("estimate", [Mean(), MeanStd()], ids=["mean", "mean_std"])


def groups_of(
    rewards: Sequence[Sequence[float]],
    truncated: Sequence[Sequence[int]] | None = None,
    log_probs: Sequence[Sequence[float]] | None = None,
) -> Groups:
    values = torch.tensor(rewards, dtype=torch.float64)
    cut = torch.zeros(values.shape) if truncated is None else torch.tensor(truncated)
    scores = torch.zeros(values.shape) if log_probs is None else torch.tensor(log_probs)
    return Groups(values, cut.bool(), scores.double())


def spread(groups: Groups, estimate: Any) -> torch.Tensor:
    """Advantages as a run hands them on: a view with one value for all positions."""
    advantages = estimate(groups)
    return advantages[..., None].expand(*advantages.shape, POSITIONS)


def centred(rewards: Sequence[float], estimate: Any) -> np.ndarray:
    row = np.array(rewards)
    if len(row) == 0 or row.max() == row.min():
        return np.zeros_like(row)
    if isinstance(estimate, Mean):
        return row - row.mean()
    return (row - row.mean()) / (row.std(ddof=1) + 1e-4)


def applied(transform: Any, groups: Groups, estimate: Any) -> np.ndarray:
    """Advantages after a transform, which leaves what it was given as it was."""
    before = spread(groups, estimate)
    kept = before.clone()
    found = transform(before, groups, estimate)
    assert torch.equal(before, kept) and found.shape == before.shape
    return found.numpy()


# -- invalid samples -----------------------------------------------------------------------------


@ESTIMATES
def test_excluded_statistics_are_those_of_the_valid_rollouts(estimate: Any) -> None:
    rewards = [[1, 0, 1, 0, 1], [1, 0, 0, 0, 1], [0, 1, 1, 0, 0], [1, 0, 0, 1, 1]]
    cut = [[0, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 1, 1], [0, 1, 1, 0, 1]]
    groups = groups_of(rewards, cut)
    found = applied(InvalidMask("excluded"), groups, estimate)
    for group in range(4):
        valid = [k for k in range(5) if not cut[group][k]]
        expected = np.zeros(5)
        expected[valid] = centred([float(rewards[group][k]) for k in valid], estimate)
        for position in range(POSITIONS):
            assert np.abs(found[group, :, position] - expected).max() < 1e-12
    assert (found[2] == 0).all(), "its valid rewards are equal"


@ESTIMATES
@pytest.mark.parametrize("reward", [1.0, 0.0, 0.25])
def test_one_valid_rollout_has_its_reward_as_advantage(estimate: Any, reward: float) -> None:
    """Mean 0 and deviation 1, as the released code has it; no NaN from the sample deviation."""
    groups = groups_of([[1, reward, 0, 1]], [[1, 0, 1, 1]])
    found = applied(InvalidMask("excluded"), groups, estimate)
    assert (found[0, 1] == reward).all()
    assert (np.delete(found[0], 1, axis=0) == 0).all()


@ESTIMATES
@pytest.mark.parametrize("variant", ["excluded", "zeroed"])
def test_without_a_valid_rollout_all_advantages_are_zero(estimate: Any, variant: str) -> None:
    groups = groups_of([[1, 0, 0, 1], [1, 0, 0, 0]], [[1, 1, 1, 1], [0, 0, 0, 0]])
    found = applied(InvalidMask(variant), groups, estimate)
    assert (found[0] == 0).all()
    assert np.abs(found[1, :, 0] - centred([1.0, 0, 0, 0], estimate)).max() < 1e-12


@ESTIMATES
def test_zeroed_rewards_stay_in_the_statistics(estimate: Any) -> None:
    groups = groups_of([[1, 0, 1, 0]], [[0, 0, 1, 1]])
    found = applied(InvalidMask("zeroed"), groups, estimate)
    expected = centred([1.0, 0, 1, 0], estimate) * np.array([1, 1, 0, 0])
    assert np.abs(found[0] - expected[:, None]).max() < 1e-12
    other = applied(InvalidMask("excluded"), groups_of([[1, 1, 0, 0]], [[0, 0, 1, 1]]), estimate)
    assert (other == 0).all()
    kept = applied(InvalidMask("zeroed"), groups_of([[1, 1, 0, 0]], [[0, 0, 1, 1]]), estimate)
    assert (kept[0, :2] > 0).all() and (kept[0, 2:] == 0).all()


@pytest.mark.parametrize("variant", ["excluded", "zeroed"])
def test_valid_groups_are_left_alone(variant: str) -> None:
    groups = groups_of([[1, 0, 1], [0, 0, 1]])
    assert (applied(InvalidMask(variant), groups, Mean()) == spread(groups, Mean()).numpy()).all()


# -- first-token selection -----------------------------------------------------------------------

REWARDS = [[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
SCORES = [
    [-1.0, -0.5, -0.1, -0.7, -0.2],  # the best of all is wrong; the best right one is rollout 1
    [-1.0, -0.5, -0.1, -0.7, -0.2],
    [-0.1, -9.0, -0.1, -0.1, -0.1],
    [-1.0, -0.5, -0.1, -0.7, -0.2],
]


@ESTIMATES
@pytest.mark.parametrize("rule", ["paper", "official"])
def test_one_correct_path_leads_the_first_position(estimate: Any, rule: str) -> None:
    """`official` silences every other rollout at t=1, `paper` the competing correct ones alone;
    later positions are untouched, and nothing changes without a positive candidate."""
    groups = groups_of(REWARDS, None, SCORES)
    before = spread(groups, estimate).numpy()
    found = applied(FirstToken(rule), groups, estimate)
    assert (found[..., 1:] == before[..., 1:]).all()
    silent = {
        "paper": {0: [0, 3]},
        "official": {0: [0, 2, 3, 4], 2: [0, 2, 3, 4]},
    }[rule]
    for group in range(4):
        expected = before[group, :, 0].copy()
        expected[silent.get(group, [])] = 0
        assert (found[group, :, 0] == expected).all()
    if rule == "paper":
        assert (found[0, [2, 4], 0] < 0).all()


def test_the_winner_is_chosen_among_advantages_at_the_first_position() -> None:
    """A rollout silenced before is no candidate, whatever its later positions say."""
    groups = groups_of([[1, 1, 0]], None, [[-0.1, -0.9, -0.5]])
    advantages = spread(groups, Mean()).clone()
    advantages[0, 0, 0] = 0.0
    found = FirstToken("official")(advantages, groups, Mean())
    assert found[0, :, 0].tolist() == [0.0, advantages[0, 1, 0].item(), 0.0]
    assert torch.equal(found[..., 1:], advantages[..., 1:])


def test_a_single_position_is_the_first() -> None:
    groups = groups_of([[1, 1, 0]], None, [[-1.0, -0.5, -0.1]])
    found = FirstToken()(Mean()(groups)[..., None], groups, Mean())
    assert found.shape == (1, 3, 1)
    assert (found[0, :, 0] != 0).tolist() == [False, True, False]


# -- order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["excluded", "zeroed"])
@pytest.mark.parametrize("rule", ["paper", "official"])
def test_selection_comes_after_the_mask_of_invalid_samples(variant: str, rule: str) -> None:
    """An invalid rollout, however probable, does not lead; the other order would let it, and leave
    the group without any leader."""
    groups = groups_of([[1, 1, 1, 0]], [[1, 0, 0, 0]], [[-0.1, -0.9, -2.0, -0.5]])
    mask, select = InvalidMask(variant), FirstToken(rule)
    right = select(applied_to(mask, groups), groups, Mean())
    assert right[0, 0].tolist() == [0.0] * POSITIONS
    assert (right[0, 1:, 0] > 0).tolist() == [True, False, False]
    wrong = mask(select(spread(groups, Mean()), groups, Mean()), groups, Mean())
    if variant == "zeroed":
        assert not (wrong[..., 0] > 0).any()
    assert not torch.equal(wrong, right)


def applied_to(transform: Any, groups: Groups) -> torch.Tensor:
    return transform(spread(groups, Mean()), groups, Mean())


def test_scaling_acts_on_what_the_others_left() -> None:
    groups = groups_of([[1, 1, 0]], None, [[-1.0, -0.5, -0.1]])
    found = ScalePositive(0.5)(applied_to(FirstToken(), groups), groups, Mean())
    third = 1 / 3
    assert np.abs(found[0, :, 0].numpy() - [0, third / 2, 0]).max() < 1e-12
    assert np.abs(found[0, :, 1].numpy() - [third / 2, third / 2, -2 * third]).max() < 1e-12


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (lambda: InvalidMask("dropped"), "invalid_mask.variant=dropped"),
        (lambda: FirstToken("on"), "first_token.rule=on"),
        (lambda: ScalePositive(-1), "scale_positive.factor=-1"),
    ],
)
def test_unknown_rules_are_refused(part: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        part()
