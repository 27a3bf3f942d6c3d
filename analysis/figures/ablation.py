"""The heat map of two config keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..runs import AnalysisError, Run
from ..study import Group, Study, groups_of
from ..variants import natural_key, row_names
from .shared import (
    DOUBLE,
    INK,
    SINGLE,
    Drawing,
    Looks,
    figure_name,
    new_canvas,
)


def ablation(study: Study, looks: Looks, over: tuple[str, ...]) -> list[Drawing]:
    """A heat map of greedy accuracy over two config keys, one for each row that else differs."""
    title = "Ablation"
    if not over:
        return [Drawing("ablation", title, "Left out: no keys; give two with --over KEY,KEY.")]
    if len(over) != 2:
        raise AnalysisError(f"--over {','.join(over)}: give two config keys, as noise.rate,seed")
    for key in over:
        if not any(_value(run, key) is not None for run in study.runs):
            raise AnalysisError(f"--over {key}: no run has this config key; see result.json")
    names = row_names(study.runs, apart=over)
    groups = groups_of(study, names, protocols=False)
    drawings = []
    for group in groups:
        drawings += _ablations(group, over, figure_name("ablation", group, groups))
    return drawings or [Drawing("ablation", title, "Left out: no greedy accuracy.")]


def _ablations(group: Group, over: tuple[str, ...], name: str) -> list[Drawing]:
    drawings = []
    for index, (row, runs) in enumerate(group.rows.items()):
        cells: dict[tuple[str, str], list[float]] = {}
        for run in runs:
            accuracy = run.metrics.get(f"{group.benchmark}/pass@1")
            first, second = (_value(run, key) for key in over)
            if accuracy is not None and first is not None and second is not None:
                cells.setdefault((first, second), []).append(100 * float(accuracy))
        title = f"{row} over {over[0]} and {over[1]}, {group.benchmark}"
        own = name if len(group.rows) == 1 else f"{name}_{index + 1}"
        if len(cells) < 2:
            drawings.append(Drawing(own, title, f"Left out: {len(cells)} cell with runs."))
        else:
            drawings.append(_heat_map(own, title, over, cells))
    return drawings


def _heat_map(
    name: str, title: str, over: tuple[str, ...], cells: Mapping[tuple[str, str], list[float]]
) -> Drawing:
    lines, columns = (sorted({key[axis] for key in cells}, key=natural_key) for axis in (0, 1))
    grid = np.full((len(lines), len(columns)), np.nan)
    for (first, second), values in cells.items():
        grid[lines.index(first), columns.index(second)] = float(np.mean(values))
    width = SINGLE if len(columns) <= 5 else DOUBLE
    figure, (axis,) = new_canvas(width, 1.0 + 0.32 * len(lines), 1, 1)
    image = axis.imshow(grid, aspect="auto")
    middle = (float(np.nanmin(grid)) + float(np.nanmax(grid))) / 2
    for row, column in np.ndindex(grid.shape):
        value = grid[row, column]
        runs = len(cells.get((lines[row], columns[column]), ()))
        text = "no run" if np.isnan(value) else f"{value:.1f} (n={runs})"
        colour = INK if np.isnan(value) else "black" if value > middle else "white"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=6.5)
    axis.set(xlabel=over[1], ylabel=over[0])
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(lines)), lines)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axis, label="pass@1 (%)", shrink=0.9)
    caption = f"{title}: greedy pass@1 in percent, mean over n runs of each cell."
    return Drawing(name, title, caption, figure)


def _value(run: Run, key: str) -> str | None:
    """A config value by its dotted key, as text; None where the run has no such leaf."""
    branch: Any = run.result.get("config") or {}
    for part in key.split("."):
        if not isinstance(branch, Mapping) or part not in branch:
            return None
        branch = branch[part]
    if isinstance(branch, Mapping):
        return None
    return branch if isinstance(branch, str) else json.dumps(branch)
