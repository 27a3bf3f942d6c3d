"""Every statistic against brute force, SciPy or simulation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest

from latentbench.analysis.stats import (
    METHODS,
    bootstrap_mean_interval,
    hierarchical_difference,
    hierarchical_interval,
    maj_at_n,
    majority,
    mcnemar,
    mean_std,
    paired_difference,
    pass_at_k,
    wilson_interval,
)


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_at_k_equals_enumeration(n: int) -> None:
    for k in range(1, n + 1):
        counts = np.arange(n + 1)
        expected = [
            np.mean([any(i < c for i in draw) for draw in combinations(range(n), k)])
            for c in counts
        ]
        np.testing.assert_allclose(pass_at_k(n, counts, k), expected, rtol=0, atol=1e-15)


def test_pass_at_k_is_exact_at_the_ends_and_stable_for_large_n() -> None:
    assert pass_at_k(10_000, 0, 5_000) == 0.0
    assert pass_at_k(10_000, 10_000, 5_000) == 1.0
    assert pass_at_k(10_000, 1, 5_000) == pytest.approx(0.5, abs=1e-12)
    np.testing.assert_array_equal(pass_at_k([4, 8], [4, 0], 4), [1.0, 0.0])


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 5), (4, 1, 0), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_refuses_impossible_counts(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"k=|samples"):
        pass_at_k(n, c, k)


@pytest.mark.parametrize(
    ("predictions", "winner"),
    [
        (["3", "7", "7"], "7"),
        (["3", "7", "7", "3"], "3"),
        ([None, None, "7"], "7"),
        ([None, None], None),
        ([], None),
    ],
)
def test_majority(predictions: list[str | None], winner: str | None) -> None:
    assert majority(predictions) == winner


def test_maj_at_n_takes_the_grade_of_the_winner() -> None:
    predictions = [["7", "7", "8"], ["8", "7", "8"], [None, None, None], ["8", "7", None]]
    correct = [[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 1, 0]]
    assert maj_at_n(predictions, correct).tolist() == [True, False, False, False]


@pytest.mark.parametrize("n", [1, 7, 100, 1319])
def test_wilson_equals_scipy(n: int) -> None:
    for successes in {0, 1, n // 3, n}:
        expected = binomtest(successes, n).proportion_ci(method="wilson")
        assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high))


def test_wilson_refuses_an_empty_sample() -> None:
    with pytest.raises(ValueError, match="n=0"):
        wilson_interval(0, 0)


def test_mcnemar_equals_the_binomial_test() -> None:
    for only_a, only_b in [(0, 1), (3, 9), (9, 3), (6, 6), (40, 12), (500, 600)]:
        a = np.array([1] * only_a + [0] * only_b + [1, 0])
        b = np.array([0] * only_a + [1] * only_b + [1, 0])
        result = mcnemar(a, b)
        assert (result.only_a, result.only_b) == (only_a, only_b)
        assert result.p == pytest.approx(binomtest(only_a, only_a + only_b).pvalue, rel=1e-9)


def test_mcnemar_without_discordant_items_is_one() -> None:
    assert mcnemar([1, 0, 1], [1, 0, 1]).p == 1.0


def test_bootstrap_is_repeatable_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.linspace(0, 1, 50)
    whole = bootstrap_mean_interval(values, resamples=1_000)
    assert whole == bootstrap_mean_interval(values[::-1], resamples=1_000)
    assert whole != bootstrap_mean_interval(values, resamples=1_000, seed=1)
    monkeypatch.setattr("latentbench.analysis.stats._CHUNK", 500)
    assert bootstrap_mean_interval(values, resamples=1_000) == whole


def test_bootstrap_agrees_with_drawing_items() -> None:
    """The multinomial over distinct values is the same law as drawing items by index."""
    values = np.repeat([0.0, 0.25, 0.5, 1.0], [50, 30, 15, 5])
    generator = np.random.default_rng(0)
    means = values[generator.integers(0, values.size, size=(20_000, values.size))].mean(axis=1)
    expected = np.quantile(means, [0.025, 0.975])
    assert bootstrap_mean_interval(values, resamples=20_000) == pytest.approx(expected, abs=3e-3)


@pytest.mark.parametrize("values", [[], [0.1, float("nan")]])
def test_bootstrap_refuses_what_has_no_mean(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        bootstrap_mean_interval(values)


def test_bootstrap_interval_covers_the_truth() -> None:
    """95 % intervals of pass@2-like values cover the true mean in 93-97 % of 1,000 repeats."""
    generator = np.random.default_rng(20)
    n, k, items, repeats = 8, 2, 200, 1_000
    support = pass_at_k(n, np.arange(n + 1), k)
    weights = np.array([20, 14, 12, 10, 8, 8, 8, 10, 10]) / 100
    truth = float(support @ weights)
    covered = 0
    for repeat in range(repeats):
        values = support[generator.choice(n + 1, size=items, p=weights)]
        low, high = bootstrap_mean_interval(values, resamples=1_000, seed=repeat)
        covered += low <= truth <= high
    assert 0.93 <= covered / repeats <= 0.97


def test_pairing_narrows_the_interval_of_correlated_outcomes() -> None:
    generator = np.random.default_rng(3)
    a = generator.random(1_319) < 0.4
    b = np.where(generator.random(1_319) < 0.9, a, generator.random(1_319) < 0.5)
    paired = paired_difference(b, a)
    assert (paired.mean, paired.n) == (pytest.approx(b.mean() - a.mean()), 1_319)
    assert paired.low <= paired.mean <= paired.high
    (low_a, high_a), (low_b, high_b) = bootstrap_mean_interval(a), bootstrap_mean_interval(b)
    unpaired = np.hypot(high_a - low_a, high_b - low_b)
    assert paired.high - paired.low < 0.6 * unpaired


@pytest.mark.parametrize("test", [paired_difference, mcnemar])
def test_pairs_need_equal_lengths(test) -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        test([1, 0], [1, 0, 1])


def test_mean_std_of_seeds() -> None:
    assert mean_std([0.5]) == (0.5, None)
    assert mean_std([0.2, 0.4, 0.6]) == (pytest.approx(0.4), pytest.approx(0.2))
    with pytest.raises(ValueError, match="at least one"):
        mean_std([])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("items", [3, 7, 49, 1_000])
def test_equal_seeds_leave_an_interval_over_items_alone(items: int, method: str) -> None:
    """Their mean is not a sum of halves: seed effects are residue of rounding, not zero."""
    row = np.random.default_rng(items).integers(0, 17, items) / 17 + 0.1
    arms = {seed: row for seed in range(5)}
    found = hierarchical_interval(arms, resamples=2_000, method=method)
    assert found.low < found.mean < found.high
    if method == "bootstrap":
        alone = bootstrap_mean_interval(row, resamples=2_000)
        assert (found.low, found.high) == pytest.approx(alone, abs=1e-9)
    other = hierarchical_difference(arms, {seed: row[::-1] for seed in range(5)}, method=method)
    assert np.isfinite([other.low, other.high]).all()
