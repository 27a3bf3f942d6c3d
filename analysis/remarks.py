"""What a run says against itself: a start model at chance or without room, a flat reward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .stats import wilson_interval
from .table import percent

if TYPE_CHECKING:
    import pandas as pd

FULL = 0.97


def remarks(
    items: pd.DataFrame, metrics: Mapping[str, float], stages: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """Sentences about the rows of items.parquet, the training metrics and the SFT stages of a run.

    At chance is a greedy accuracy whose 95 % interval (Wilson) does not exclude the share of the
    most frequent gold answer.
    """
    found = [
        f"SFT stage {stage['stage']} ended at its cap with {percent(stage['accuracy'])} % of "
        "validation right, short of its gate"
        for stage in stages
        if not stage["passed"]
    ]
    columns = (items[name] for name in ("benchmark", "stage", "decode", "correct", "gold"))
    greedy = [row for row in zip(*columns, strict=True) if row[2] == "greedy"]
    stage = "init" if any(row[1] == "init" for row in greedy) else "final"
    for benchmark in sorted({row[0] for row in greedy}):
        graded = [row[3:] for row in greedy if row[:2] == (benchmark, stage)]
        found += _of_benchmark(benchmark, graded, "start model" if stage == "init" else "model")
    if metrics.get("train/mixed_groups") == 0:
        found.append(
            "no group of rollouts had two different rewards in the whole of RL: nothing was "
            "learned from rewards"
        )
    return found


def _of_benchmark(benchmark: str, graded: Sequence[tuple[bool, str]], model: str) -> list[str]:
    """`graded` are the (correct, gold) of its items, answered greedily."""
    right, n = sum(correct for correct, _ in graded), len(graded)
    ((most, times),) = Counter(gold for _, gold in graded).most_common(1)
    if wilson_interval(right, n)[0] <= times / n:
        return [
            f"{benchmark}: the {model} is at chance: {percent(right / n)} % right, and always "
            f"answering {most!r} is right for {percent(times / n)} %; read nothing into it"
        ]
    if right / n > FULL and model == "start model":
        return [
            f"{benchmark}: the start model is right for {percent(right / n)} %, which leaves next "
            "to nothing to gain"
        ]
    return []
