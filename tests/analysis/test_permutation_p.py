"""A Monte Carlo p-value counts the sample itself: it is never 0, and never above 1."""

from __future__ import annotations

import numpy as np
import pytest

from latentbench.analysis.stats import permutation_p


@pytest.mark.parametrize("resamples", [99, 999])
def test_the_least_p_is_one_in_resamples_and_one(resamples: int) -> None:
    """Forty equal differences: all signs alike has chance 2^-39, which no draw meets."""
    better = np.full(40, 0.75)
    assert permutation_p(better, better - 0.5, resamples=resamples) == 1 / (resamples + 1)


def test_the_largest_p_is_one() -> None:
    """A sum of 0 is reached by every draw."""
    a, b = np.array([0.75, 0.25, 0.5]), np.array([0.25, 0.75, 0.5])
    assert permutation_p(a, b, resamples=99) == 1.0


def test_p_is_an_unbiased_share_of_the_draws_and_the_sample() -> None:
    """One differing item: every draw is as extreme as the sample."""
    assert permutation_p([0.3, 0.5], [0.1, 0.5], resamples=7) == 1.0
