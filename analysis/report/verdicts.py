"""What the page says of a study in words: who is ahead, by how much, and what is not shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..metrics import GREEDY, Metric
from ..stats import Interval, difference_p, hierarchical_difference, holm
from ..study import Group, Study
from ..table import percent
from .cells import headline

_LEVEL = 0.05
# Half widths of a 95 % interval that a true effect must measure to be found with 80 % chance. Taken
# from the interval shown, so that the two agree where few seeds make it wide.
_REACH = (1.960 + 0.842) / 1.960

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """A sentence about a comparison: kind is better, none (shown) or lost (to the correction)."""

    kind: str
    head: str
    detail: str


@dataclass(frozen=True)
class Contrast:
    """A difference with what a verdict about it needs; `p` is not yet adjusted."""

    first: str
    second: str
    where: str
    metric: str
    difference: Interval
    p: float
    seeds: tuple[int, int]


def verdicts_of(study: Study, groups: Sequence[Group]) -> tuple[list[Verdict], list[Verdict]]:
    """What may be said of methods against each other, and of each against its own init."""
    pairs = [contrast for group in groups for contrast in _pairs(study, group)]
    gains = [contrast for group in groups for contrast in _gains(study, group)]
    return in_words(pairs, versus), in_words(gains, gained)


def _pairs(study: Study, group: Group) -> list[Contrast]:
    """All pairs of rows of a group, the one with the higher mean first."""
    metric, cells = headline(study, group)
    found = []
    for pair in combinations(cells, 2):
        first, second = sorted(pair, key=lambda row: (-float(np.mean(cells[row].seeds)), row))
        a, b = cells[first], cells[second]
        if a.uids == b.uids and a.items is not None and b.items is not None:
            found.append(_contrast(first, second, group, metric, a.items, b.items))
    return sorted(found, key=lambda each: -each.difference.mean)


def _gains(study: Study, group: Group) -> list[Contrast]:
    """Each row of a group against its own init, seed by seed."""
    metric, finals = headline(study, group)
    found = []
    for row, final in finals.items():
        start = study.measure(group.rows[row], group.benchmark, metric.at("init"))
        if start is not None and start.items is not None and final.items is not None:
            arms = final.items, start.items
            found.append(_contrast(row, "its own init", group, metric, *arms, paired=True))
    return sorted(found, key=lambda each: -each.difference.mean)


def _contrast(
    first: str,
    second: str,
    group: Group,
    metric: Metric,
    a: Values,
    b: Values,
    paired: bool = False,
) -> Contrast:
    return Contrast(
        first,
        second,
        group.benchmark,
        _spoken(metric),
        hierarchical_difference(a, b, pair_seeds=paired),
        # Against another method, one run a side says nothing of other seeds.
        difference_p(a, b, pair_seeds=paired) if paired or min(len(a), len(b)) > 1 else 1.0,
        (len(a), len(b)),
    )


def in_words(
    contrasts: Sequence[Contrast], wording: Callable[[str, Contrast], str]
) -> list[Verdict]:
    """The contrasts in words, corrected together (Holm): what is shown, then what is not."""
    adjusted = holm([each.p for each in contrasts])
    verdicts = []
    for each, p in zip(contrasts, adjusted, strict=True):
        kind = _kind(each, p)
        verdicts.append(Verdict(kind, wording(kind, each), _detail(kind, each, p, len(contrasts))))
    return sorted(verdicts, key=lambda verdict: verdict.kind != "better")


def _kind(contrast: Contrast, p: float) -> str:
    if contrast.difference.low <= 0 <= contrast.difference.high:
        return "none"
    return "better" if p < _LEVEL else "lost"


def versus(kind: str, contrast: Contrast) -> str:
    points = _points(abs(contrast.difference.mean))
    where = f"on {contrast.where} ({contrast.metric})"
    if kind == "better":
        return f"{contrast.first} beats {contrast.second} {where} by {points}."
    return f"No difference shown between {contrast.first} and {contrast.second} {where}."


def gained(kind: str, contrast: Contrast) -> str:
    where = f"on {contrast.where} ({contrast.metric})"
    if kind != "better":
        return f"No change shown between {contrast.first} and its own init {where}."
    verb = "gains" if contrast.difference.mean > 0 else "loses"
    size = _points(abs(contrast.difference.mean))
    return f"{contrast.first} {verb} {size} over its own init {where}."


def _detail(kind: str, contrast: Contrast, p: float, family: int) -> str:
    """The numbers behind a verdict, and what they do not say."""
    difference = contrast.difference
    if difference.low == difference.mean == difference.high == 0.0:
        counts = f"{count(min(contrast.seeds), 'seed')}, {count(difference.items, 'item')}"
        return f"Not one grade differs on average over seeds; {counts}."
    low, high = percent(difference.low, signed=True), percent(difference.high, signed=True)
    parts = [
        f"Difference {percent(difference.mean, signed=True)} points, 95 % interval {low} to {high}"
    ]
    if kind == "none":
        parts[0] += ", which spans 0"
    corrected = f"adjusted for {family} comparisons " if family > 1 else ""
    parts.append(f"{'p' if family == 1 else 'p ' + corrected}{_p_text(p)}")
    first, second = contrast.seeds
    seeds = count(first, "seed") if first == second else f"{first} and {second} seeds"
    parts.append(f"{seeds}, {count(difference.items, 'item')}")
    text = "; ".join(parts) + "."
    reach = _points(_REACH * (difference.high - difference.low) / 2)
    if kind == "lost":
        adjusted = " so adjusted" if family > 1 else ""
        text += f" The interval excludes 0, but p{adjusted} is not below {_LEVEL}."
    if kind != "better":
        text += f" Smallest effect that such a comparison finds with 80 % chance: about {reach}."
    if min(contrast.seeds) == 1:
        text += " One seed: this says nothing about other seeds."
    return text.replace(" %", "\u00a0%")


def _spoken(metric: Metric) -> str:
    return "greedy pass@1" if metric == GREEDY else "sampled pass@1"


def _p_text(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}" if p < 0.01 else f"= {p:.2f}"


def _points(fraction: float) -> str:
    return f"{percent(fraction)} points"


def count(number: int, noun: str) -> str:
    """`1 seed`, `1,000 items`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
