"""pass@k of init and final, and the gain at each k."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..metrics import sampled_pass
from ..runs import Run
from ..study import Group, Study, groups_of
from .shared import (
    DOUBLE,
    INIT_COLOUR,
    INIT_DASHES,
    INK,
    SINGLE,
    Drawing,
    Looks,
    add_legend,
    count_seeds,
    draw_intervals,
    estimate_of,
    figure_name,
    new_canvas,
    power_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pass_at_k(study: Study, looks: Looks, over: tuple[str, ...]) -> list[Drawing]:
    """pass@k of init and final, and the gain at each k, for every group with sampled answers."""
    groups = groups_of(study)
    return [
        _pass_at_k(study, group, figure_name("pass_at_k", group, groups), looks) for group in groups
    ]


def _pass_at_k(study: Study, group: Group, name: str, looks: Looks) -> Drawing:
    title = f"pass@k, {group.title}"
    curves = {row: _k_curves(study, runs, group.benchmark) for row, runs in group.rows.items()}
    curves = {row: curve for row, curve in curves.items() if "final" in curve}
    if not curves:
        return Drawing(name, title, "Left out: no sampled answers.")
    paired = {row: curve for row, curve in curves.items() if "gain" in curve}
    figure, axes = new_canvas(DOUBLE if paired else SINGLE, 2.3, 1, 2 if paired else 1)
    for index, (row, curve) in enumerate(curves.items()):
        # Bars beside, not over, each other.
        shift = 1 + min(0.04, 0.2 / len(curves)) * (index - (len(curves) - 1) / 2)
        draw_intervals(axes[0], curve["final"], looks[row], shift)
        if row in paired:
            draw_intervals(axes[1], curve["gain"], looks[row], shift)
    shared = _draw_inits(axes[0], paired, looks)
    axes[0].set(ylabel="pass@k (%)")
    if paired:
        axes[1].axhline(0, color=INK, linewidth=0.6)
        axes[1].set(ylabel="final - init (points)")
    for axis in axes:
        power_ticks(axis, sorted({k for curve in curves.values() for k in curve["final"]}))
    add_legend(figure, looks, curves, init=bool(paired))
    own = "the init that all share (grey)" if shared else "each one's own init (hollow, dotted)"
    caption = "Unbiased pass@k of the sampled answers. "
    if paired:
        caption += f"Left: final, and {own}; right: gain over own init. "
    caption += f"Bars: 95 % intervals over seeds and items. {count_seeds(group.rows)}"
    return Drawing(name, title, caption, figure)


def _k_curves(
    study: Study, runs: Sequence[Run], benchmark: str
) -> dict[str, dict[int, tuple[float, float, float]]]:
    """For final, init and their difference: k to mean and interval, in percent."""
    samples = min((study.outcomes(run, benchmark).samples for run in runs), default=0)
    curves: dict[str, dict[int, tuple[float, float, float]]] = {}
    for k in (2**power for power in range(samples.bit_length())):
        for stage in ("final", "init", "gain"):
            cell = study.measure(runs, benchmark, sampled_pass(k).at(stage))
            if cell is not None and cell.items is not None:
                curves.setdefault(stage, {})[k] = estimate_of(cell.items)
    return curves


def _draw_inits(axis: Axes, curves: Mapping[str, Mapping[str, Any]], looks: Looks) -> bool:
    """Draw the inits, once if all rows start from the same; whether they do."""
    distinct = {json.dumps(curve["init"]) for curve in curves.values()}
    for row, curve in curves.items():
        shared = len(distinct) == 1
        look = {"color": INIT_COLOUR} if shared else {"color": looks[row]["color"]}
        look |= {"linestyle": INIT_DASHES, "marker": "o" if shared else looks[row]["marker"]}
        draw_intervals(axis, curve["init"], look, hollow=True)
        if shared:
            return True
    return False
