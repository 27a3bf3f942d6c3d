"""The statistics behind every table: pure functions on arrays.

Items are the unit of resampling; runs (seeds) are averaged, never pooled with items. Shares are
fractions in [0, 1]; the tables turn them into percent.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vote = TypeVar("Vote", bound=Hashable)

_CHUNK = 4_000_000  # resampled counts held at once: 32 MB as int64, and as much again as float


@dataclass(frozen=True)
class Difference:
    """A paired mean difference over `n` items with its percentile bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class McNemar:
    """Items that only the first (`only_a`) or only the second (`only_b`) got right; the p-value."""

    only_a: int
    only_b: int
    p: float


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> NDArray[np.float64]:
    """The unbiased chance that at least one of `k` samples is right, per item.

    `n` samples were drawn and `c` of them are right; n and c broadcast. 1 - C(n-c, k) / C(n, k) of
    Chen et al. 2021 (arXiv:2107.03374), as a product of k factors: no factorial, no overflow.

    Raises ValueError for k < 1, k > n and c outside 0..n.
    """
    drawn, right = np.broadcast_arrays(np.asarray(n, dtype=float), np.asarray(c, dtype=float))
    if k < 1 or np.any(k > drawn):
        raise ValueError(f"k={k}: pass@k needs 1 <= k <= n, and n is {drawn.min():.0f}")
    if np.any((right < 0) | (right > drawn)):
        raise ValueError("c: the number of right samples must lie in 0..n")
    miss = np.ones(drawn.shape)
    for j in range(k):
        # Clipped at 0: with fewer than k wrong samples every draw of k holds a right one.
        miss = miss * np.maximum(drawn - right - j, 0.0) / (drawn - j)
    return 1.0 - miss


def majority(predictions: Iterable[Vote | None]) -> Vote | None:
    """The most frequent prediction; None does not vote, ties go to the answer seen first."""
    votes: dict[Vote, int] = {}
    for prediction in predictions:
        if prediction is not None:
            votes[prediction] = votes.get(prediction, 0) + 1
    return max(votes, key=votes.__getitem__, default=None)  # dict order: the first seen wins a tie


def maj_at_n(predictions: Sequence[Sequence[Any]], correct: ArrayLike) -> NDArray[np.bool_]:
    """Whether the majority prediction is right, per item.

    `predictions` and `correct` are [item, sample]; an item without any vote counts as wrong. The
    grade of the majority is the grade that its first sample was given: nothing is graded again.
    """
    grades = np.asarray(correct, dtype=bool)
    outcome = np.zeros(len(predictions), dtype=bool)
    for item, row in enumerate(predictions):
        winner = majority(row)
        if winner is not None:
            outcome[item] = grades[item, list(row).index(winner)]
    return outcome


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927); honest at 0 and 1. ValueError for n < 1."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes={successes}, n={n}: needs n >= 1 and 0 <= successes <= n")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return low, high


def bootstrap_mean_interval(
    values: ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of a mean over items.

    Drawing n items with replacement is drawing how often each distinct value comes up, which is one
    multinomial: exact, and far cheaper where values repeat, as outcomes of items do.

    Raises ValueError for an empty or non-finite sample.
    """
    sample = np.asarray(values, dtype=float).ravel()
    if sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"a bootstrap needs finite values, at least one; got {sample.size} values")
    distinct, counts = np.unique(sample, return_counts=True)
    if distinct.size == 1:
        return float(distinct[0]), float(distinct[0])
    generator = np.random.Generator(np.random.Philox(seed))
    shares = counts / sample.size
    means = np.empty(resamples)
    chunk = max(1, _CHUNK // distinct.size)
    for start in range(0, resamples, chunk):
        stop = min(start + chunk, resamples)
        drawn = generator.multinomial(sample.size, shares, size=stop - start)
        means[start:stop] = drawn @ distinct / sample.size
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def paired_difference(
    a: ArrayLike, b: ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """The mean of a - b over items that both were measured on, with its paired bootstrap interval.

    Row i of `a` and of `b` must be the same item. Raises ValueError for unequal lengths.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"paired values need equal lengths: {first.shape} and {second.shape}")
    each = first - second
    low, high = bootstrap_mean_interval(each, level, resamples, seed)
    return Difference(float(each.mean()), low, high, each.size)


def mcnemar(a: ArrayLike, b: ArrayLike) -> McNemar:
    """The exact two-sided McNemar test of two 0/1 outcomes on the same items.

    Twice the binomial(m, 1/2) tail of the rarer kind of m discordant items, in whole numbers; p is
    1 when no item is discordant. Raises ValueError for unequal lengths.
    """
    first, second = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(f"paired outcomes need equal lengths: {first.shape} and {second.shape}")
    only_a, only_b = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    discordant = only_a + only_b
    tail = sum(math.comb(discordant, i) for i in range(min(only_a, only_b) + 1))
    return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**discordant))


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (ddof 1) over seeds; one seed has no deviation: None."""
    sample = np.asarray(values, dtype=float)
    if sample.size == 0:
        raise ValueError("a mean needs at least one value")
    return float(sample.mean()), float(sample.std(ddof=1)) if sample.size > 1 else None
