"""What a run answered, per item: read from the rows of items.parquet, checked for completeness.

Every metric is taken from these (metrics.py), so that a record, a table, a figure and the report
have one source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .stats import maj_at_n, pass_at_k

if TYPE_CHECKING:
    import pandas as pd

STAGES = ("init", "final")
COLUMNS = ("benchmark", "item", "stage", "decode", "sample", "prediction", "correct")
_GREEDY = ("truncated", "answer_tokens", "latent_steps")
_SAMPLED = ("truncated", "answer_tokens")


@dataclass(frozen=True)
class Outcomes:
    """The graded answers of one benchmark at one stage, items in the order of their uids.

    `greedy` [item] and `sampled` [item, sample] are 0/1; `majority` [item] is the grade of the
    majority answer. What was not decoded is None. `numbers` [item] describe the greedy answers, or
    the sampled ones where nothing was decoded greedily, and under `sampled_<name>` the mean of the
    sampled ones; `grader_failures` counts both.
    """

    items: tuple[str, ...]
    greedy: NDArray[np.bool_] | None
    sampled: NDArray[np.bool_] | None
    majority: NDArray[np.bool_] | None
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """How many answers were sampled for each item."""
        return 0 if self.sampled is None else self.sampled.shape[1]

    def pass_at(self, k: int) -> NDArray[np.float64]:
        """pass@k per item from the sampled answers; ValueError where there are fewer than k."""
        if self.sampled is None:
            raise ValueError(f"k={k}: pass@k needs sampled answers, and there are none")
        return pass_at_k(self.samples, self.sampled.sum(axis=1), k)


def outcomes(items: pd.DataFrame, benchmark: str, stage: str) -> Outcomes:
    """The outcomes of one benchmark at one stage.

    Raises ValueError where an item was answered twice, is missing from one decoding, or has not as
    many samples as its neighbours: a table over such rows would weigh items unequally.
    """
    rows = items.loc[(items["benchmark"] == benchmark) & (items["stage"] == stage)]
    where = f"benchmark {benchmark!r}, stage {stage!r}"
    greedy = rows.loc[rows["decode"] == "greedy"].sort_values(by=["item"])
    sampled = rows.loc[rows["decode"] == "sampled"].sort_values(by=["item", "sample"])
    if greedy.empty and sampled.empty:
        raise ValueError(f"{where}: no rows")
    uids = tuple((sampled if greedy.empty else greedy)["item"].unique())
    if len(greedy) not in (0, len(uids)):
        raise ValueError(
            f"{where}: an item has more than one greedy answer; give items distinct uids"
        )
    if not sampled.empty:
        _check_samples(sampled, uids, where)
    numbers = _numbers(greedy, sampled, len(uids))
    if sampled.empty:
        return Outcomes(uids, _grades(greedy), None, None, numbers)
    grades = _grades(sampled).reshape(len(uids), -1)
    # A missing prediction comes back from the file as NaN; only texts are votes.
    votes = [vote if isinstance(vote, str) else None for vote in sampled["prediction"]]
    n = grades.shape[1]
    ballots = [votes[start : start + n] for start in range(0, len(votes), n)]
    first = None if greedy.empty else _grades(greedy)
    return Outcomes(uids, first, grades, maj_at_n(ballots, grades), numbers)


def _numbers(
    greedy: pd.DataFrame, sampled: pd.DataFrame, items: int
) -> dict[str, NDArray[np.float64]]:
    """Lengths, cut answers and failures of the grader per item, as far as the rows have them."""
    numbers = {}
    described = sampled if greedy.empty else greedy
    for column in _GREEDY:
        if column in described:
            numbers[column] = _per_item(described, column, items).mean(axis=1)
    for column in _SAMPLED:
        if column in sampled and len(sampled):
            numbers[f"sampled_{column}"] = _per_item(sampled, column, items).mean(axis=1)
    if "grader_failed" in greedy:
        both = [_per_item(rows, "grader_failed", items) for rows in (greedy, sampled) if len(rows)]
        numbers["grader_failures"] = np.concatenate(both, axis=1).sum(axis=1)
    return numbers


def _per_item(rows: pd.DataFrame, column: str, items: int) -> NDArray[np.float64]:
    return rows[column].to_numpy(dtype=float).reshape(items, -1)


def _check_samples(sampled: pd.DataFrame, uids: tuple[str, ...], where: str) -> None:
    """Every item must carry the samples 0..n-1 once, and the items of both decodings must agree."""
    if tuple(sampled["item"].unique()) != uids:
        raise ValueError(f"{where}: greedy and sampled answers are of different items")
    n, rest = divmod(len(sampled), len(uids))
    numbers = sampled["sample"].to_numpy()
    if rest or not np.array_equal(numbers, np.tile(np.arange(n), len(uids))):
        raise ValueError(f"{where}: not every item has the samples 0..n-1 once; evaluate again")


def _grades(rows: pd.DataFrame) -> NDArray[np.bool_]:
    return rows["correct"].to_numpy(dtype=bool)
