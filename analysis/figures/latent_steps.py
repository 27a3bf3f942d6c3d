"""Accuracy against the number of latent steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..runs import Run
from ..study import Group, Study, groups_of
from ..variants import row_names
from .shared import (
    SINGLE,
    Drawing,
    Looks,
    add_legend,
    count_seeds,
    draw_intervals,
    figure_name,
    looks_of,
    mean_and_range,
    new_canvas,
)


def latent_steps(study: Study, looks: Looks, over: tuple[str, ...]) -> list[Drawing]:
    """Greedy accuracy against the number of latent steps, where the runs have several."""
    names = row_names(study.runs, apart=("latent", "curriculum", "sft", "choices.curriculum"))
    groups = groups_of(study, names, protocols=False)
    return [
        _latent_steps(study, group, figure_name("latent_steps", group, groups), looks)
        for group in groups
    ]


def _latent_steps(study: Study, group: Group, name: str, looks: Looks) -> Drawing:
    title = f"Accuracy against latent steps, {group.title}"
    curves = {row: _by_steps(study, runs, group.benchmark) for row, runs in group.rows.items()}
    steps = sorted({step for curve in curves.values() for step in curve})
    if len(steps) < 2:
        said = f"every answer has {steps[0]} latent steps" if steps else "no greedy answers"
        return Drawing(name, title, f"Left out: {said}.")
    figure, (axis,) = new_canvas(SINGLE, 2.3, 1, 1)
    looks = looks_of([*looks, *curves])
    for row, curve in curves.items():
        look = looks[row]
        points = {step: mean_and_range(values) for step, values in sorted(curve.items())}
        draw_intervals(axis, points, look)
    axis.set(xlabel="latent steps", ylabel="pass@1 (%)", xticks=steps)
    add_legend(figure, looks, curves)
    caption = (
        "Greedy pass@1 of the answers with each number of latent steps, mean over runs; bars: one "
        "sample standard deviation over runs. Where steps vary within a run, harder items may "
        f"have more of them. {count_seeds(group.rows, 'run')}"
    )
    return Drawing(name, title, caption, figure)


def _by_steps(study: Study, runs: Sequence[Run], benchmark: str) -> dict[int, list[float]]:
    """Greedy accuracy in percent of each run, by the number of latent steps of the answers."""
    found: dict[int, list[float]] = {}
    for run in runs:
        outcome = study.outcomes(run, benchmark)
        if outcome.greedy is not None:
            steps = outcome.numbers["latent_steps"]
            for step in np.unique(steps):
                right = float(outcome.greedy[steps == step].mean())
                found.setdefault(int(step), []).append(100 * right)
    return found
