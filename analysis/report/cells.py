"""The tables of the page: every figure with its 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..metrics import GREEDY, Metric, accuracies, sampled_pass
from ..stats import hierarchical_interval
from ..study import Group, Measured, Study
from ..table import percent


@dataclass(frozen=True)
class Cell:
    """One cell of a sortable table: what is shown, a smaller second line, what it sorts by."""

    text: str
    note: str = ""
    value: float | None = None


def headline(study: Study, group: Group) -> tuple[Metric, dict[str, Measured]]:
    """The metric that verdicts are about and what each row has of it: greedy where there is any."""
    for metric in (GREEDY, sampled_pass(1)):
        found = {
            row: study.measure(runs, group.benchmark, metric) for row, runs in group.rows.items()
        }
        held = {row: cell for row, cell in found.items() if cell is not None}
        if held:
            return metric, held
    return GREEDY, {}


def table_of(study: Study, group: Group) -> dict[str, Any]:
    """One group as headings and rows of cells."""
    metric, _ = headline(study, group)
    runs = [run for own in group.rows.values() for run in own]
    chosen: list[tuple[str, Metric]] = []
    for each in accuracies({name for run in runs for name in run.metrics}):
        chosen.append((each.heading, each))
        if each == metric:
            chosen += [("own init", metric.at("init")), ("gain", metric.at("gain"))]
    columns: dict[str, list[Cell]] = {}
    for heading, each in chosen:
        cells = [_figure(study, group, row, each) for row in group.rows]
        if any(cell.value is not None for cell in cells):
            columns[heading] = cells
    counts = [Cell(str(len(own)), value=len(own)) for own in group.rows.values()]
    rows = [
        (name, [counts[line], *(cells[line] for cells in columns.values())])
        for line, name in enumerate(group.rows)
    ]
    return {"group": group, "headings": ["seeds", *columns], "rows": rows}


def _figure(study: Study, group: Group, row: str, metric: Metric) -> Cell:
    cell = study.measure(group.rows[row], group.benchmark, metric)
    if cell is None or cell.items is None:
        return Cell("n/a")
    interval = hierarchical_interval(cell.items)
    signed = metric.stage == "gain"
    low, high = percent(interval.low, signed), percent(interval.high, signed)
    return Cell(percent(interval.mean, signed), f"[{low}, {high}]", round(interval.mean, 6))
