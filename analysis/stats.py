"""The statistics behind every table: pure functions on arrays.

Items are the unit of resampling; runs (seeds) are averaged, never pooled with items. Shares are
fractions in [0, 1]; the tables turn them into percent.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    generator = np.random.Generator(np.random.Philox(seed))
    means = _resampled_means(sample, resamples, generator)
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
    least = _least_variance(each, first, second)
    low, high = _bounds_over_items(each, least, level, resamples, seed)
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


@dataclass(frozen=True)
class Interval:
    """A mean over runs and items with its interval, and how many seeds and items it rests on."""

    mean: float
    low: float
    high: float
    seeds: int
    items: int


@dataclass(frozen=True)
class Aggregate:
    """One number over runs x benchmarks with its interval."""

    value: float
    low: float
    high: float
    runs: int
    benchmarks: int


@dataclass(frozen=True)
class Components:
    """Standard deviations of a paired difference: over items, over seeds, and of one answer.

    `sd_items` is what items differ by after averaging over any number of seeds, `sd_seeds` what a
    pair of seeds differs by over any number of items, `sd_residual` the luck of one item under one
    pair of seeds. All in the unit of the values.
    """

    sd_items: float = 0.0
    sd_seeds: float = 0.0
    sd_residual: float = 0.0


SeedValues = Mapping[Any, Any] | NDArray[Any] | Sequence[Any]  # [item] by seed, or [seed, item]
METHODS = ("bootstrap", "t")


def hierarchical_interval(
    values: SeedValues,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    method: str = "bootstrap",
) -> Interval:
    """The interval of a mean over seeds and items; one seed: over its items alone.

    `values` are [seed, item], or a mapping from seed to [item]; all seeds answer the same items, so
    that an item's difficulty does not average out over seeds. "bootstrap" draws seeds, then items:
    items of the seed averages, and seed effects scaled to their variance beyond what items explain
    and to Student's t of so few seeds, for plain draws of 3 seeds cover too little. "t" adds the
    same variances and takes Satterthwaite's degrees of freedom. docs/analysis.md has the coverage
    of both. Raises ValueError for ragged, empty or non-finite values.
    """
    arm = _matrix(values)
    found = _interval([arm], arm.mean(axis=0), arm, level, resamples, seed, method)
    if _shares(arm):  # no share lies beyond 0 or 1
        return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))
    return found


def hierarchical_difference(
    a: SeedValues,
    b: SeedValues,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    pair_seeds: bool = False,
    method: str = "bootstrap",
) -> Interval:
    """The mean of a - b with its interval, paired on items: column i of both is the same item.

    Seeds vary independently in the two arms; `pair_seeds` takes the difference seed by seed where
    both arms hold the same seeds (equal keys of the mappings, or equal numbers of rows) and share
    more than the number, as an init or a batch order. `seeds` is the smaller number of the two.
    Raises ValueError for unequal items, or for seeds that cannot be paired.
    """
    arms, each = _arms(a, b, pair_seeds)
    measured = np.concatenate([_matrix(a), _matrix(b)])
    return _interval(arms, each, measured, level, resamples, seed, method)


def difference_p(a: SeedValues, b: SeedValues, pair_seeds: bool = False) -> float:
    """The two-sided p-value that belongs to `hierarchical_difference` by "t".

    With one seed in both arms: McNemar's for 0/1 outcomes, else the sign-flip test over items.
    """
    arms, each = _arms(a, b, pair_seeds)
    if all(len(arm) == 1 for arm in arms):
        first, second = _matrix(a)[0], _matrix(b)[0]
        if np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all():
            return mcnemar(first, second).p
        return permutation_p(first, second)
    variance, freedom = _variance(arms, each, _least_variance(each, _matrix(a), _matrix(b)))
    if variance == 0.0:
        return 1.0 if each.mean() == 0.0 else 0.0
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(each.mean()) / math.sqrt(variance)))


def permutation_p(a: ArrayLike, b: ArrayLike, resamples: int = 10_000, seed: int = 0) -> float:
    """The two-sided sign-flip test of paired per-item outcomes that need not be 0/1.

    Under the null either arm is as likely to have got the better of an item. Signs of items with
    one absolute difference are one binomial draw. Monte Carlo p-values count the sample itself, so
    that the least is 1 / (resamples + 1). Raises ValueError for unequal lengths.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"paired values need equal lengths: {first.shape} and {second.shape}")
    each = first - second
    # Differences that are equal up to rounding must fall together, or ties would be missed.
    sizes, counts = np.unique(np.round(np.abs(each[each != 0.0]), 12), return_counts=True)
    if sizes.size == 0:
        return 1.0
    generator = np.random.Generator(np.random.Philox(seed))
    observed = abs(each.sum())
    extreme, chunk = 0, max(1, _CHUNK // sizes.size)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        positive = generator.binomial(counts, 0.5, size=(rows, sizes.size))
        extreme += int(np.sum(np.abs((2 * positive - counts) @ sizes) >= observed - 1e-9))
    return (extreme + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (1979), in the order given: valid under any dependence."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def interquartile_mean(
    values: ArrayLike, level: float = 0.95, resamples: int = 2_000, seed: int = 0
) -> Aggregate:
    """The mean of the middle half of all scores [run, benchmark] (Agarwal et al. 2021, rliable).

    The interval is the percentile bootstrap over runs, drawn for each benchmark alone. A quarter of
    the scores, rounded down, is cut at either end. Raises ValueError unless two-dimensional.
    """
    scores = _scores(values)
    generator = np.random.Generator(np.random.Philox(seed))
    drawn = np.sort(_redrawn(scores, resamples, generator).reshape(resamples, -1), axis=1)
    cut = scores.size // 4
    middle = slice(cut, scores.size - cut)
    low, high = np.quantile(drawn[:, middle].mean(axis=1), [0.5 - level / 2, 0.5 + level / 2])
    value = float(np.sort(scores, axis=None)[middle].mean())
    return Aggregate(value, float(low), float(high), *scores.shape)


def probability_of_improvement(
    a: ArrayLike, b: ArrayLike, level: float = 0.95, resamples: int = 2_000, seed: int = 0
) -> Aggregate:
    """The chance that a run of `a` beats one of `b`, averaged over benchmarks (rliable's).

    `a` and `b` are [run, benchmark]; ties count one half. The interval is the percentile bootstrap
    over runs, drawn for each benchmark and arm alone. Raises ValueError for unequal benchmarks.
    """
    first, second = _scores(a), _scores(b)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"unequal benchmarks: {first.shape[1]} and {second.shape[1]}")
    generator = np.random.Generator(np.random.Philox(seed))
    chances = _beats(_redrawn(first, resamples, generator), _redrawn(second, resamples, generator))
    low, high = np.quantile(chances, [0.5 - level / 2, 0.5 + level / 2])
    value = float(_beats(first[None], second[None])[0])
    runs = min(len(first), len(second))
    return Aggregate(value, float(low), float(high), runs, first.shape[1])


def minimal_detectable_effect(
    n_items: int, seeds: int, parts: Components, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The least true difference that a paired two-sided test finds with chance `power`.

    (z[1 - alpha/2] + z[power]) x sqrt(sd_items²/n + sd_seeds²/S + sd_residual²/(n S)), in the unit
    of the deviations (fractions for shares): see Components. The normal law is optimistic below
    about five seeds. Raises ValueError for n or S below 1.
    """
    if n_items < 1 or seeds < 1:
        raise ValueError(f"n_items={n_items}, seeds={seeds}: needs at least one of each")
    per_item, per_seed, luck = _variances(parts)
    variance = per_item / n_items + per_seed / seeds + luck / (n_items * seeds)
    return _reach(power, alpha) * math.sqrt(variance)


def detectable_difference(
    a: SeedValues,
    b: SeedValues,
    pair_seeds: bool = False,
    power: float = 0.8,
    alpha: float = 0.05,
) -> float:
    """The least true difference that two measured arms, as many seeds and items, would show.

    The formula of `minimal_detectable_effect` with the variance of `hierarchical_difference`.
    """
    arms, each = _arms(a, b, pair_seeds)
    variance, _ = _variance(arms, each, _least_variance(each, _matrix(a), _matrix(b)))
    return _reach(power, alpha) * math.sqrt(variance)


def items_needed(
    effect: float, seeds: int, parts: Components, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """The fewest items with which `effect` is detectable at `seeds` seeds, by the same formula.

    None where no number of items is enough, because the seeds alone vary too much.
    """
    per_item, per_seed, luck = _variances(parts)
    left = (effect / _reach(power, alpha)) ** 2 - per_seed / seeds
    return _least((per_item + luck / seeds), left)


def seeds_needed(
    effect: float, n_items: int, parts: Components, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """The fewest seeds per arm with which `effect` is detectable on `n_items` items, at least two:
    one says nothing of others.

    None where no number of seeds is enough, because the items are too few.
    """
    per_item, per_seed, luck = _variances(parts)
    left = (effect / _reach(power, alpha)) ** 2 - per_item / n_items
    least = _least(per_seed + luck / n_items, left)
    return None if least is None else max(2, least)


def components(a: SeedValues, b: SeedValues) -> Components:
    """The deviations of the difference of two arms, from the mean squares of their two-way tables.

    Seeds are taken as independent between the arms. With one seed in both arms nothing tells seeds
    and residual apart: all is put on the items, and `sd_seeds` is nan. Outcomes that all agree show
    no deviation and do not prove that there is none: those of shares are never below what so many
    items can exclude.
    """
    arms, each = _arms(a, b, pair_seeds=False)
    items = each.size
    least = _least_variance(each, _matrix(a), _matrix(b))
    over_items = float(each.var(ddof=1)) if items > 1 else 0.0
    if any(len(arm) < 2 for arm in arms):
        return Components(math.sqrt(max(over_items, least)), math.nan, 0.0)
    luck = sum(_residual(arm) for arm in arms)
    over_seeds = sum(_seed_variance(arm) for arm in arms)
    averaged = sum(_residual(arm) / len(arm) for arm in arms)
    over_items = max(least, over_items - averaged)
    over_seeds = max(over_seeds, least / items)
    return Components(math.sqrt(over_items), math.sqrt(over_seeds), math.sqrt(luck))


def _matrix(values: SeedValues) -> NDArray[np.float64]:
    """Values as [seed, item], seeds in the order of their keys."""
    if isinstance(values, Mapping):
        rows = [np.asarray(values[key], dtype=float) for key in sorted(values)]
        if len({row.shape for row in rows}) > 1:
            raise ValueError("seeds need the same items: " + ", ".join(str(r.size) for r in rows))
        values = np.array(rows)
    matrix = np.atleast_2d(np.asarray(values, dtype=float))
    if matrix.ndim != 2 or matrix.size == 0 or not np.isfinite(matrix).all():
        raise ValueError(f"needs finite values [seed, item], at least one; got {matrix.shape}")
    return matrix


def _arms(
    a: SeedValues, b: SeedValues, pair_seeds: bool
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """The [seed, item] tables whose seeds vary independently, and the difference per item."""
    first, second = _matrix(a), _matrix(b)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"paired values need equal items: {first.shape[1]} and {second.shape[1]}")
    each = first.mean(axis=0) - second.mean(axis=0)
    if not pair_seeds:
        return [first, second], each
    keyed = isinstance(a, Mapping) and isinstance(b, Mapping)
    if len(first) != len(second) or (keyed and sorted(a) != sorted(b)):
        raise ValueError("seeds cannot be paired: the arms hold different seeds")
    together = first - second
    return [together], together.mean(axis=0)


def _residual(arm: NDArray[np.float64]) -> float:
    """The mean square of what neither the seed nor the item explains; 0 for one seed or item."""
    seeds, items = arm.shape
    if seeds < 2 or items < 2:
        return 0.0
    rest = arm - arm.mean(axis=1, keepdims=True) - arm.mean(axis=0) + arm.mean()
    return float((rest**2).sum() / ((seeds - 1) * (items - 1)))


def _seed_variance(arm: NDArray[np.float64]) -> float:
    """The variance of seed means beyond what the luck of items explains; 0 for one seed."""
    if len(arm) < 2:
        return 0.0
    return max(0.0, float(arm.mean(axis=1).var(ddof=1)) - _residual(arm) / arm.shape[1])


def _shares(*values: NDArray[np.float64]) -> bool:
    """Whether these are shares of right answers: nothing below 0 or above 1."""
    return all(float(v.min()) >= 0.0 and float(v.max()) <= 1.0 for v in values)


def _least_variance(each: NDArray[np.float64], *measured: NDArray[np.float64]) -> float:
    """What the variance over items is taken for where all of them agree: for shares as much as
    makes the interval as wide as Wilson's, z² / (n + z²), and not 0. Numbers such as lengths can
    be equal for certain."""
    if not _shares(*measured) or float(np.ptp(each)) > 1e-12:
        return 0.0
    z = NormalDist().inv_cdf(0.975)
    return each.size * (z / (each.size + z * z)) ** 2


def _bounds_over_items(
    each: NDArray[np.float64], least: float, level: float, resamples: int, seed: int
) -> tuple[float, float]:
    """The bootstrap over items, or the normal law where they vary less than `least`."""
    if each.size and each.var() < least:
        half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(least / each.size)
        mean = float(each.mean())
        return mean - half, mean + half
    return bootstrap_mean_interval(each, level, resamples, seed)


def _variance(
    arms: Sequence[NDArray[np.float64]], each: NDArray[np.float64], least_items: float = 0.0
) -> tuple[float, float]:
    """The variance of the mean and its Satterthwaite degrees of freedom.

    The freedom takes the seeds' variance before the items' share is taken off: that share is itself
    an estimate, and without this the interval covers too little at three seeds. It is never less
    than that of the arm with the fewest seeds.
    """
    items = each.size
    over_items = max(float(each.var(ddof=1)) if items > 1 else 0.0, least_items) / items
    variance = over_items + sum(_seed_variance(arm) / len(arm) for arm in arms)
    loss, least = over_items**2 / max(items - 1, 1), max(items - 1, 1)
    for arm in arms:
        if len(arm) > 1:
            raw = float(arm.mean(axis=1).var(ddof=1)) / len(arm)
            loss += raw**2 / (len(arm) - 1)
            least = min(least, len(arm) - 1)
    return variance, math.inf if loss == 0.0 else max(least, variance**2 / loss)


def _interval(
    arms: Sequence[NDArray[np.float64]],
    each: NDArray[np.float64],
    measured: NDArray[np.float64],
    level: float,
    resamples: int,
    seed: int,
    method: str,
) -> Interval:
    if method not in METHODS:
        raise ValueError(f"method={method!r}: choose one of {', '.join(METHODS)}")
    mean, seeds = float(each.mean()), min(len(arm) for arm in arms)
    least = _least_variance(each, measured)
    if all(len(arm) == 1 for arm in arms):
        low, high = _bounds_over_items(each, least, level, resamples, seed)
    elif method == "t":
        low, high = _t_bounds(arms, each, least, level)
    else:
        low, high = _bootstrap_bounds(arms, each, least, level, resamples, seed)
    return Interval(mean, low, high, seeds, each.size)


def _t_bounds(
    arms: Sequence[NDArray[np.float64]], each: NDArray[np.float64], least: float, level: float
) -> tuple[float, float]:
    from scipy.special import stdtrit

    variance, freedom = _variance(arms, each, least)
    mean = float(each.mean())
    if variance == 0.0:
        return mean, mean
    half = float(stdtrit(freedom, 0.5 + level / 2)) * math.sqrt(variance)
    return mean - half, mean + half


def _bootstrap_bounds(
    arms: Sequence[NDArray[np.float64]],
    each: NDArray[np.float64],
    least: float,
    level: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    from scipy.special import stdtrit

    generator = np.random.Generator(np.random.Philox(seed))
    means = _resampled_means(each, resamples, generator)
    if each.var() < least:
        luck = generator.standard_normal(resamples) * math.sqrt(least / each.size)
        means = float(each.mean()) + luck
    normal = NormalDist().inv_cdf(0.5 + level / 2)
    for arm in arms:
        effects = arm.mean(axis=1) - arm.mean()
        wanted = math.sqrt(_seed_variance(arm)) * stdtrit(len(arm) - 1, 0.5 + level / 2) / normal
        # Equal seeds leave rounding residue of their mean, which is not to be scaled up.
        if wanted == 0.0 or effects.std() <= 1e-12 * float(np.abs(arm).max()):
            continue
        drawn = generator.integers(0, len(arm), size=(resamples, len(arm)))
        means = means + wanted / effects.std() * effects[drawn].mean(axis=1)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def _scores(values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=float)
    if scores.ndim != 2 or scores.size == 0 or not np.isfinite(scores).all():
        raise ValueError(f"needs finite scores [run, benchmark]; got shape {scores.shape}")
    return scores


def _redrawn(
    scores: NDArray[np.float64], resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """[resample, run, benchmark]: runs drawn with replacement, for each benchmark alone."""
    runs, benchmarks = scores.shape
    drawn = generator.integers(0, runs, size=(resamples, runs, benchmarks))
    return scores[drawn, np.arange(benchmarks)]


def _beats(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """[resample]: share of pairs of runs in which a is ahead, ties one half, over benchmarks."""
    ahead = a[:, :, None, :] - b[:, None, :, :]
    return ((ahead > 0) + 0.5 * (ahead == 0)).mean(axis=(1, 2, 3))


def _reach(power: float, alpha: float) -> float:
    """How many standard errors a difference must be to be found with that power."""
    if not 0 < alpha < 1 or not 0 < power < 1:
        raise ValueError(f"power={power}, alpha={alpha}: both must lie between 0 and 1")
    return NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)


def _variances(parts: Components) -> tuple[float, float, float]:
    return parts.sd_items**2, parts.sd_seeds**2, parts.sd_residual**2


def _least(wanted: float, left: float) -> int | None:
    """The fewest draws that bring a variance down to what is left for it."""
    return None if left <= 0 else max(1, math.ceil(wanted / left - 1e-9))


def _resampled_means(
    sample: NDArray[np.float64], resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """[resample]: means of samples drawn with replacement, as one multinomial each."""
    distinct, counts = np.unique(sample, return_counts=True)
    if distinct.size == 1:
        return np.full(resamples, distinct[0])
    shares = counts / sample.size
    means = np.empty(resamples)
    chunk = max(1, _CHUNK // distinct.size)
    for start in range(0, resamples, chunk):
        stop = min(start + chunk, resamples)
        drawn = generator.multinomial(sample.size, shares, size=stop - start)
        means[start:stop] = drawn @ distinct / sample.size
    return means
