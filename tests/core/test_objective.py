"""Advantages, transforms and the clipped surrogate against worked values and closed forms."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from checks import (
    LAYOUT,
    check_mean_values,
    check_surrogate_values,
    gap,
    groups,
    loss_input,
    make_policy,
    make_prompts,
    naive_rollout_scores,
    parity,
    replayed,
    rolled,
    twin,
)

from latentbench.advantage.mean import Mean
from latentbench.advantage.mean_std import MeanStd
from latentbench.config import plugins
from latentbench.errors import InputError
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.noise.shared_mask import SharedMask
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import LossInput
from latentbench.training.update import Objective, Scorer, k3_towards, part_loss, whole_of
from latentbench.transform.first_token import RULES, FirstToken
from latentbench.transform.invalid_mask import VARIANTS, InvalidMask
from latentbench.transform.scale_positive import ScalePositive

ESTIMATORS = [Mean(), MeanStd(), MeanStd(eps=0.0), MeanStd(eps=0.0, ddof=0)]


def near(found: torch.Tensor, expected: Any, tolerance: float = 1e-12) -> bool:
    return gap(found.double(), torch.tensor(expected, dtype=torch.float64)) < tolerance


# -- advantages -----------------------------------------------------------------------------------


def test_mean_worked_values() -> None:
    check_mean_values()


def test_mean_std_worked_values() -> None:
    """[1, 0, 0, 0] with the sample deviation 1/2; two rollouts with either deviation."""
    one = [[1, 0, 0, 0]]
    assert near(MeanStd()(groups(one)), [[1.4997, -0.4999, -0.4999, -0.4999]], 5e-5)
    assert near(MeanStd(eps=0.0)(groups(one)), [[1.5, -0.5, -0.5, -0.5]])
    population = 3**0.5 / 4
    expected = [[0.75 / population, *[-0.25 / population] * 3]]
    assert near(MeanStd(eps=0.0, ddof=0)(groups(one)), expected)
    assert near(MeanStd()(groups([[1, 0]])), [[0.7070, -0.7070]], 5e-5)
    assert near(MeanStd(eps=0.0, ddof=0)(groups([[1, 0]])), [[1.0, -1.0]])


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flat_group_gets_exactly_zero(estimator: Any, value: float, dtype: Any) -> None:
    """Also with eps = 0, and beside a mixed group."""
    for size in (2, 3, 5, 7, 16):
        batch = groups([[value] * size, [value + 1.0] + [value] * (size - 1)])
        found = estimator(replace(batch, rewards=batch.rewards.to(dtype)))
        assert torch.isfinite(found).all() and (found[1] != 0).all()
        assert (found[0] == 0).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_flat_group_of_fractions_gets_exactly_zero(estimator: Any) -> None:
    """Graded rewards whose mean is rounded: the group still says nothing."""
    values = np.random.default_rng(0).random(50)
    for size in (3, 5, 7, 16):
        batch = groups([[value] * size for value in values])
        assert (estimator(replace(batch, rewards=batch.rewards.float())) == 0).all()


@pytest.mark.parametrize("estimator", [Mean(), MeanStd()], ids=repr)
def test_a_group_sums_to_zero_and_follows_its_permutations(estimator: Any) -> None:
    rewards = torch.from_numpy(np.random.default_rng(0).random((6, 5)))
    whole = estimator(groups(rewards.tolist()))
    assert float(whole.sum(dim=1).abs().max()) < 1e-12
    rows, columns = torch.tensor([5, 2, 0, 1, 4, 3]), torch.tensor([3, 1, 4, 0, 2])
    permuted = estimator(groups(rewards[rows][:, columns].tolist()))
    assert gap(permuted, whole[rows][:, columns]) < 1e-12
    alone = estimator(groups(rewards[2:3].tolist()))
    assert gap(alone, whole[2:3]) < 1e-12, "a group does not see its neighbours"
    shifted = estimator(groups((rewards + 7.5).tolist()))
    assert gap(shifted, whole) < 1e-12


@pytest.mark.parametrize("ddof", [0, 1])
def test_mean_std_against_numpy(ddof: int) -> None:
    rewards = np.random.default_rng(1).random((4, 6))
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    expected = centred / (rewards.std(axis=1, ddof=ddof, keepdims=True) + 1e-4)
    assert near(MeanStd(ddof=ddof)(groups(rewards.tolist())), expected)


def test_zeroed_invalid_samples_worked_values() -> None:
    """A cut answer's advantage is 0; the others keep theirs."""
    cut = [[True, False, False], [False, False, True]]
    batch = groups([[1, 0, 0], [0, 1, 0]], cut)
    found = InvalidMask()(Mean()(batch)[..., None], batch, Mean())
    third = 1 / 3
    assert near(found[..., 0], [[0, -third, -third], [-third, 2 * third, 0]])


def test_scale_positive_worked_values() -> None:
    batch = groups([[1, 0, 0, 0]])
    advantages = Mean()(batch)[..., None]
    found = ScalePositive(0.1)(advantages, batch, Mean())[..., 0]
    assert near(found, [[0.075, -0.25, -0.25, -0.25]])
    found = ScalePositive(2.0)(advantages, batch, Mean())[..., 0]
    assert near(found, [[1.5, -0.25, -0.25, -0.25]])


TRANSFORMS = [
    *(InvalidMask(variant) for variant in VARIANTS),
    *(FirstToken(rule) for rule in RULES),
    ScalePositive(2.0),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_a_transform_leaves_zeros_zero(transform: Any) -> None:
    """Groups of equal rewards, whatever was cut; one valid rollout revives none."""
    cut = [[True, False, False], [False, False, True], [True, True, False], [True, True, True]]
    batch = groups([[1, 1, 1], [0, 0, 0], [1, 1, 1], [1, 1, 1]], cut)
    assert (transform(torch.zeros(4, 3, 2), batch, Mean()) == 0).all()


def test_all_transforms_are_here() -> None:
    found = {type(transform) for transform in TRANSFORMS}
    assert found == {plugins.plugin("transform", n) for n in plugins.plugin_names("transform")}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: MeanStd(ddof=2),
        lambda: MeanStd(eps=-1.0),
        lambda: ScalePositive(-0.1),
        lambda: Clipped(aggregate="mean"),
        lambda: Clipped(clip_low=0.0),
        lambda: Clipped(clip_low=1.5),
        lambda: Clipped(clip_high=0.0),
    ],
)
def test_values_without_meaning_are_refused(wrong: Any) -> None:
    with pytest.raises(InputError):
        wrong()


# -- the clipped surrogate ------------------------------------------------------------------------


def test_surrogate_worked_values() -> None:
    check_surrogate_values()


RATIOS = [[1.0, 1.5, 0.4, 0.9], [1.1, 0.5, 1.9, 1.0], [0.7, 1.3, 1.0, 1.0]]
ADVANTAGES, LENGTHS = [0.75, -0.5, 1.25], [4, 3, 2]


def _grad(batch: LossInput) -> torch.Tensor:
    assert batch.log_probs.grad is not None
    return batch.log_probs.grad


@pytest.mark.parametrize("aggregate", ["token_sum", "token_mean"])
def test_padding_changes_neither_loss_nor_gradient(aggregate: str) -> None:
    """Whatever finite values stand there."""
    plain = loss_input(ADVANTAGES, RATIOS, LENGTHS)
    rubbish = torch.full((3, 2), -900.0, dtype=torch.float64)
    log_probs = torch.cat([plain.log_probs.detach(), rubbish], dim=1).requires_grad_()
    wide = replace(
        plain,
        log_probs=log_probs,
        old_log_probs=torch.cat([plain.old_log_probs, rubbish + 1800], dim=1),
        mask=torch.cat([plain.mask, torch.zeros(3, 2, dtype=torch.long)], dim=1),
        advantages=torch.cat([plain.advantages, rubbish.abs()], dim=1),
    )
    one, other = Clipped(aggregate=aggregate)(plain).loss, Clipped(aggregate=aggregate)(wide).loss
    one.backward()
    other.backward()
    assert one.item() == other.item()
    assert torch.equal(_grad(wide)[:, :4], _grad(plain)) and (_grad(wide)[:, 4:] == 0).all()


# -- the estimator --------------------------------------------------------------------------------


def expected_gradient(
    estimator: Any, logits: torch.Tensor, rewards: torch.Tensor, size: int
) -> torch.Tensor:
    """E over all K-tuples of actions of minus the gradient of the surrogate at ratio 1."""
    probabilities = torch.softmax(logits, dim=0)
    total = torch.zeros_like(logits)
    for actions in itertools.product(range(len(logits)), repeat=size):
        chosen = torch.tensor(actions)
        theta = logits.clone().requires_grad_()
        log_probs = torch.log_softmax(theta, dim=0)[chosen][:, None]
        advantages = estimator(groups([rewards[chosen].tolist()]))[0][:, None]
        ones = torch.ones_like(chosen)[:, None]
        batch = LossInput(log_probs, log_probs.detach(), ones, advantages, size, size)
        Clipped()(batch).loss.backward()
        assert theta.grad is not None
        total -= probabilities[chosen].prod() * theta.grad
    return total


def true_gradient(logits: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """d E[r] / d logit_i = p_i (r_i - E[r])."""
    probabilities = torch.softmax(logits, dim=0)
    return probabilities * (rewards - (probabilities * rewards).sum())


LOGITS = torch.tensor([0.3, -1.1, 0.8, -0.2], dtype=torch.float64)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("rewards", [[1, 0, 0, 0], [1, 0.2, -0.5, 0]])
def test_mean_only_is_the_policy_gradient_times_k_minus_1_over_k(
    size: int, rewards: list[float]
) -> None:
    values = torch.tensor(rewards, dtype=torch.float64)
    found = expected_gradient(Mean(), LOGITS, values, size)
    assert gap(found, (size - 1) / size * true_gradient(LOGITS, values)) < 1e-12


def test_dividing_by_the_deviation_is_not_the_policy_gradient() -> None:
    """Its scale depends on how likely the reward is; with graded rewards its direction is off."""
    binary = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    factors = []
    for logit in (-4.0, 0.9):
        logits = torch.tensor([logit, 0.0, 0.4], dtype=torch.float64)
        found = expected_gradient(MeanStd(), logits, binary[:3], 6)
        factors.append(float(found[0] / true_gradient(logits, binary[:3])[0]))
    assert factors[0] / factors[1] > 1.2
    graded = torch.tensor([1.0, -20.0, 0.0, 0.0], dtype=torch.float64)
    found, true = expected_gradient(MeanStd(), LOGITS, graded, 4), true_gradient(LOGITS, graded)
    assert float(torch.cosine_similarity(found, true, dim=0)) < 0.9
    exact = expected_gradient(Mean(), LOGITS, graded, 4)
    assert float(torch.cosine_similarity(exact, true, dim=0)) > 1 - 1e-12


# -- the penalty towards the reference ------------------------------------------------------------


def scorer_of(policy: Any) -> Scorer:
    return Scorer(policy, Unscored(), 1.0, LAYOUT.markers.pad)


def penalty_of(policy: Any, reference: Any, rollouts: Any, log_probs: torch.Tensor) -> torch.Tensor:
    return k3_towards(
        reference, scorer_of(policy), rollouts, log_probs, torch.zeros_like(log_probs)
    )


@pytest.mark.parametrize("family_name", ["gpt2", "llama"])
def test_k3_is_the_formula_on_naive_scores_under_the_same_record(family_name: str) -> None:
    """Sum over real tokens of exp(d) - d - 1, d = log ref - log policy, both under one mask."""
    noise = SharedMask(rate=0.3)
    policy = make_policy(twin(family_name), noise)
    reference = make_policy(twin(family_name, seed=1), noise)
    rollouts = rolled(policy, make_prompts(3))
    with torch.no_grad():
        found = penalty_of(policy, reference, rollouts, replayed(policy, rollouts).log_probs)
    pairs = zip(
        naive_rollout_scores(policy, rollouts, 1.0),
        naive_rollout_scores(reference, rollouts, 1.0),
        strict=True,
    )
    expected = 0.0
    for mine, other in pairs:
        difference = (other.log_probs - mine.log_probs).detach().double().clamp(-10, 10)
        expected += float((difference.exp() - difference - 1).sum())
    assert expected > 1 and abs(float(found) / expected - 1) < 1e-4


def test_k3_is_zero_for_equal_weights_and_has_no_gradient_there() -> None:
    noise = SharedMask(rate=0.3)
    policy, reference = make_policy(twin("gpt2"), noise), make_policy(twin("gpt2"), noise)
    rollouts = rolled(policy, make_prompts(3))
    replay = replayed(policy, rollouts)
    penalty = penalty_of(policy, reference, rollouts, replay.log_probs)
    assert float(penalty) == 0.0
    (slope,) = torch.autograd.grad(penalty, [replay.log_probs])
    assert (slope == 0).all()


def test_k3_slope_is_one_minus_the_ratio() -> None:
    """d/dlogp of exp(d) - d - 1 is 1 - exp(d): the reference is a constant."""
    policy, reference = make_policy(twin("gpt2")), make_policy(twin("gpt2", seed=1))
    rollouts = rolled(policy, make_prompts(2))
    log_probs = replayed(reference, rollouts).log_probs.detach() + 0.3
    mask = rollouts.answers.text.mask
    leaf = log_probs.requires_grad_()
    penalty = penalty_of(policy, reference, rollouts, leaf)
    (slope,) = torch.autograd.grad(penalty, [leaf])
    assert gap(slope, (1 - np.exp(-0.3)) * mask) < 1e-5
    objective = Objective(parity, Mean(), (), Clipped(), Unscored())
    scorer, whole = scorer_of(policy), whole_of(rollouts, Unscored())
    without = part_loss(scorer, objective, rollouts, leaf, None, whole, reference=None, kl=0.1)
    assert float(without.sums["kl"]) == 0.0


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_entropy_is_that_of_the_law_that_was_sampled(temperature: float) -> None:
    policy = make_policy(twin("gpt2"), SharedMask(rate=0.3))
    rollouts = rolled(policy, make_prompts(3), temperature=temperature)
    replay = replayed(policy, rollouts, temperature)
    for row, scored in enumerate(naive_rollout_scores(policy, rollouts, temperature)):
        length = len(scored.log_probs)
        law = scored.law.exp().detach()
        expected = torch.special.entr(law).sum(dim=-1)
        assert gap(replay.entropy[row, :length], expected) < 1e-5
        assert (expected < np.log(8) + 1e-6).all()
    assert not replay.entropy.requires_grad
