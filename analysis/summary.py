"""From per-item outcomes to the metrics of a run.

The training side calls `summary_metrics` for `result.json` and the run table calls `outcomes` for
its intervals, so that both read one definition of every metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.stats import maj_at_n, pass_at_k

if TYPE_CHECKING:
    import pandas as pd

STAGES = ("init", "final")


@dataclass(frozen=True)
class Outcomes:
    """The graded answers of one benchmark at one stage, items in the order of their uids.

    `greedy` [item] and `sampled` [item, sample] are 0/1; `majority` [item] is the grade of the
    majority answer. What was not decoded is None.
    """

    items: tuple[str, ...]
    greedy: NDArray[np.bool_] | None
    sampled: NDArray[np.bool_] | None
    majority: NDArray[np.bool_] | None

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
    if sampled.empty:
        return Outcomes(uids, _grades(greedy), None, None)
    _check_samples(sampled, uids, where)
    grades = _grades(sampled).reshape(len(uids), -1)
    # A missing prediction comes back from the file as NaN; only texts are votes.
    votes = [vote if isinstance(vote, str) else None for vote in sampled["prediction"]]
    n = grades.shape[1]
    ballots = [votes[start : start + n] for start in range(0, len(votes), n)]
    first = None if greedy.empty else _grades(greedy)
    return Outcomes(uids, first, grades, maj_at_n(ballots, grades))


def summary_metrics(items: pd.DataFrame, ks: Sequence[int]) -> dict[str, float]:
    """The `metrics` of `result.json`, keyed `<benchmark>/<metric>`, with `init/` before stage init.

    `pass@1` is greedy accuracy, `sampled_pass@1` and `pass@k` for the other `ks` come from the n
    sampled answers, `maj@n` is their majority, and `coverage` is pass@n: the share of items that
    any sample solves. `truncated` (share), `answer_tokens` and `latent_steps` (means) describe the
    greedy answers, or the sampled ones where nothing was decoded greedily; `sampled_truncated` and
    `sampled_answer_tokens` describe the sampled ones. Shares are fractions. `grader_failures`
    counts the answers, of both kinds, on which the grader came to no end. Raises ValueError for
    k > n and for the faults that `outcomes` names.
    """
    metrics: dict[str, float] = {}
    for benchmark in sorted(items["benchmark"].unique()):
        for stage in STAGES:
            rows = items.loc[(items["benchmark"] == benchmark) & (items["stage"] == stage)]
            if rows.empty:
                continue
            name = f"init/{benchmark}" if stage == "init" else benchmark
            measured = _accuracies(outcomes(rows, benchmark, stage), ks)
            greedy = rows.loc[rows["decode"] == "greedy"]
            described = rows if greedy.empty else greedy
            for column in ("truncated", "answer_tokens", "latent_steps"):
                measured[column] = _mean(described, column)
            sampled = rows.loc[rows["decode"] == "sampled"]
            if not sampled.empty:
                for column in ("truncated", "answer_tokens"):
                    measured[f"sampled_{column}"] = _mean(sampled, column)
            if "grader_failed" in rows:
                measured["grader_failures"] = float(rows["grader_failed"].to_numpy().sum())
            metrics.update({f"{name}/{metric}": value for metric, value in measured.items()})
    return metrics


def _mean(rows: pd.DataFrame, column: str) -> float:
    return float(rows[column].to_numpy(dtype=float).mean())


def metric_of(k: int) -> str:
    """The metric that holds pass@k of sampled answers: `pass@1` itself is the greedy figure."""
    return "sampled_pass@1" if k == 1 else f"pass@{k}"


def _accuracies(outcome: Outcomes, ks: Sequence[int]) -> dict[str, float]:
    measured: dict[str, float] = {}
    if outcome.greedy is not None:
        measured["pass@1"] = float(outcome.greedy.mean())
    if outcome.majority is not None:
        for k in sorted(set(ks)):
            measured[metric_of(k)] = float(outcome.pass_at(k).mean())
        measured["coverage"] = float(outcome.pass_at(outcome.samples).mean())
        measured[f"maj@{outcome.samples}"] = float(outcome.majority.mean())
    return measured


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
