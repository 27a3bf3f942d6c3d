"""Accuracy against the sequential forward passes of an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..metrics import GREEDY, LENGTH
from ..runs import Run
from ..study import Group, Study, groups_of
from .shared import (
    DOUBLE,
    INK,
    SINGLE,
    Drawing,
    Looks,
    add_legend,
    count_seeds,
    figure_name,
    new_canvas,
)


def cost(study: Study, looks: Looks, over: tuple[str, ...]) -> list[Drawing]:
    """Greedy accuracy against latent steps + answer tokens, with the frontier."""
    groups = groups_of(study, protocols=False)
    return [_cost(study, group, figure_name("cost", group, groups), looks) for group in groups]


def _cost(study: Study, group: Group, name: str, looks: Looks) -> Drawing:
    title = f"Accuracy and cost, {group.title}"
    points = {row: _costs(study, runs, group.benchmark) for row, runs in group.rows.items()}
    points = {row: each for row, each in points.items() if len(each)}
    if not points:
        return Drawing(name, title, "Left out: no greedy answers.")
    means = {row: each.mean(axis=0) for row, each in points.items()}
    prices = [mean[0] for mean in means.values()]
    if max(prices) - min(prices) < 0.01 * max(prices):
        said = f"every row costs {np.mean(prices):.1f} latent steps and answer tokens per item"
        return Drawing(name, title, f"Left out: {said}.")
    figure, (axis,) = new_canvas(SINGLE if len(points) <= 8 else DOUBLE, 2.4, 1, 1)
    for row, each in points.items():
        look = looks[row]
        axis.scatter(*each.T, s=6, color=look["color"], alpha=0.35, linewidth=0)
        axis.plot(*means[row], color=look["color"], marker=look["marker"], markersize=6)
    frontier = _frontier(list(means.values()))
    axis.step(*np.transpose(frontier), where="post", color=INK, linewidth=0.7, zorder=1)
    axis.set(xlabel="latent steps + answer tokens per item", ylabel="pass@1 (%)")
    axis.margins(0.12)
    add_legend(figure, looks, points, lines=False)
    caption = (
        "Greedy pass@1 against the mean number of sequential forward passes of an answer (latent "
        "steps + answer tokens). Small points: seeds; large: their mean. The line joins the rows "
        f"that no cheaper row matches. {count_seeds(group.rows)}"
    )
    return Drawing(name, title, caption, figure)


def _costs(study: Study, runs: Sequence[Run], benchmark: str) -> NDArray[np.float64]:
    """(cost, accuracy in percent) of each run with greedy answers, as [run, 2]."""
    price, right = (study.measure(runs, benchmark, metric) for metric in (LENGTH, GREEDY))
    if price is None or right is None:
        return np.empty((0, 2))
    return np.array([price.seeds, [100 * share for share in right.seeds]]).T


def _frontier(points: Sequence[NDArray[np.float64]]) -> list[tuple[float, float]]:
    """The points that no cheaper or equally cheap point reaches, from cheap to dear."""
    kept: list[tuple[float, float]] = []
    for price, accuracy in sorted((float(x), float(y)) for x, y in points):
        if not kept or accuracy > kept[-1][1]:
            if kept and kept[-1][0] == price:
                kept.pop()
            kept.append((price, accuracy))
    return kept
