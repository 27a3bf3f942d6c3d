"""What latents are: their path in a plane, and the words nearest to each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..runs import AnalysisError, Run
from ..study import Study, groups_of
from .shared import (
    DOUBLE,
    INK,
    SINGLE,
    Drawing,
    Looks,
    figure_name,
    new_canvas,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


LATENTS = "latents.parquet"


_RIGHT, _WRONG = "#0072B2", "#D55E00"


_WORDS = 5  # tokens shown of each latent


_MAX_PANELS = 4  # methods whose latents one figure shows


def trajectories(study: Study, looks: Looks, over: tuple[str, ...]) -> list[Drawing]:
    """The latents of one group in the plane of their two principal components, by reward."""
    return _by_benchmark(study, "trajectories", "Latent trajectories", _trajectories)


def thoughts(study: Study, looks: Looks, over: tuple[str, ...]) -> list[Drawing]:
    """What each latent says: the tokens that the output head reads from it, as a table."""
    return _by_benchmark(study, "thoughts", "What each latent says", _thoughts)


def _by_benchmark(
    study: Study,
    name: str,
    title: str,
    painter: Callable[[str, str, Mapping[str, tuple[Run, pd.DataFrame]]], Drawing],
) -> list[Drawing]:
    """One figure for each group of runs that left latents: the first seed of each row."""
    held = {run.path: frame for run in study.runs if (frame := _latents(run)) is not None}
    if not held:
        return [Drawing(name, title, f"Left out: no run has a {LATENTS}.")]
    drawings = []
    groups = groups_of(study)
    for group in groups:
        chosen: dict[str, tuple[Run, pd.DataFrame]] = {}
        for row, runs in group.rows.items():
            for run in runs:
                frame = held.get(run.path)
                own = None if frame is None else frame.loc[frame["benchmark"] == group.benchmark]
                if own is not None and len(own) and row not in chosen:
                    chosen[row] = (run, own)
        if chosen:
            first = dict(list(chosen.items())[:_MAX_PANELS])
            full = f"{title}, {group.title}"
            drawing = painter(figure_name(name, group, groups), full, first)
            left = list(chosen)[_MAX_PANELS:]
            said = f" Not shown: {', '.join(left)}." if left else ""
            drawings.append(
                Drawing(drawing.name, drawing.title, drawing.caption + said, drawing.figure)
            )
    return drawings or [
        Drawing(name, title, f"Left out: {LATENTS} holds no benchmark of the runs.")
    ]


def _latents(run: Run) -> pd.DataFrame | None:
    import pandas as pd

    path = run.path / LATENTS
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise AnalysisError(f"{path}: cannot be read ({line}); evaluate again") from error


def _telling_item(frames: Sequence[pd.DataFrame]) -> str:
    """The item whose rollouts are nearest to half right at the end, over all rows shown."""
    distance: dict[str, float] = {}
    for frame in frames:
        last = frame.loc[frame["stage"] == "final"]
        last = last if len(last) else frame
        for item, graded in last.groupby("item")["correct"]:
            off = abs(float(graded.to_numpy(dtype=float).mean()) - 0.5)
            distance[str(item)] = distance.get(str(item), 0.0) + off
    # An item that only some rows have would win by having fewer distances: prefer common ones.
    common = [i for i in distance if all((frame["item"] == i).any() for frame in frames)]
    return min(common or distance, key=lambda item: (distance[item], item))


def _trajectories(name: str, title: str, chosen: Mapping[str, tuple[Run, pd.DataFrame]]) -> Drawing:
    item = _telling_item([frame for _, frame in chosen.values()])
    held = {row: (run, _of_item(frame, item)) for row, (run, frame) in chosen.items()}
    held = {row: pair for row, pair in held.items() if len(pair[1])}
    stages = [
        s for s in ("init", "final") if any((f["stage"] == s).any() for _, f in held.values())
    ]
    width = DOUBLE if len(stages) > 1 else SINGLE
    figure, axes = new_canvas(width, 0.3 + 1.95 * len(held), len(held), len(stages))
    for line, (row, (run, frame)) in enumerate(held.items()):
        own = axes[line * len(stages) : (line + 1) * len(stages)]
        _plane(own, stages, frame, f"{row}, seed {run.seed}")
    _reward_legend(figure)
    caption = (
        f"Latents of all rollouts of item {item} in the plane of their two principal components, "
        "fitted for each run to both stages together; a path runs from latent step 1 (small "
        "point) to the last (large marker). Planes of different runs are not "
        "comparable; without latent noise all rollouts coincide."
    )
    return Drawing(name, title, caption, figure)


def _plane(axes: Sequence[Axes], stages: Sequence[str], frame: pd.DataFrame, label: str) -> None:
    """One run: a panel for each stage, in one plane and on common axes."""
    vectors = np.stack([np.asarray(vector, dtype=float) for vector in frame["vector"]])
    points, shares = _principal(vectors)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.08 * np.maximum(high - low, 1e-9)
    for axis, stage in zip(axes, stages, strict=True):
        inside = (frame["stage"] == stage).to_numpy()
        for _, path in frame.loc[inside].groupby("rollout"):
            where = frame.index.get_indexer(path.index)
            right = bool(path["correct"].iloc[0])
            _path(axis, points[where], right)
        axis.set(xlim=(low[0] - margin[0], high[0] + margin[0]))
        axis.set(ylim=(low[1] - margin[1], high[1] + margin[1]), title=f"{label}: {stage}")
        axis.set(xlabel=f"component 1 ({shares[0]:.0%})", ylabel=f"component 2 ({shares[1]:.0%})")


def _path(axis: Axes, points: NDArray[np.float64], right: bool) -> None:
    colour, marker = (_RIGHT, "o") if right else (_WRONG, "X")
    style = "-" if right else (0, (3, 1.5))
    axis.plot(*points.T, color=colour, linestyle=style, linewidth=0.7, alpha=0.6)
    axis.scatter(*points[:1].T, s=4, color=colour, linewidth=0)
    axis.scatter(*points[-1:].T, s=18, color=colour, marker=marker, linewidth=0, alpha=0.9)


def _principal(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[float]]:
    """Coordinates on the two first principal components, and their shares of the variance."""
    centred = vectors - vectors.mean(axis=0)
    left, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    # The sign of a component is arbitrary: its largest loading is made positive.
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    points = np.zeros((len(vectors), 2))
    held = min(2, len(sizes))
    points[:, :held] = (left * sizes * signs)[:, :held]
    total = float((sizes**2).sum()) or 1.0
    shares = [float(size**2) / total for size in sizes[:2]]
    return points, [*shares, 0.0, 0.0][:2]


def _reward_legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=_RIGHT, marker="o", label="right answer"),
        Line2D([], [], color=_WRONG, marker="X", linestyle=(0, (3, 1.5)), label="wrong answer"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _thoughts(name: str, title: str, chosen: Mapping[str, tuple[Run, pd.DataFrame]]) -> Drawing:
    item = _telling_item([frame for _, frame in chosen.values()])
    tables = []
    for row, (run, frame) in chosen.items():
        own = _of_item(frame, item)
        for stage in ("init", "final"):
            rows = own.loc[own["stage"] == stage]
            if len(rows):
                rows = rows.loc[rows["rollout"] == rows["rollout"].min()]
                said = "right" if bool(rows["correct"].iloc[0]) else "wrong"
                heading = f"{row}, seed {run.seed}: {stage} (answer {said})"
                tables.append((heading, rows.sort_values("latent_step")))
    across = 2 if len(tables) > 1 else 1
    down = -(-len(tables) // across)
    steps = max(len(rows) for _, rows in tables)
    height = 0.35 + down * (0.55 + 0.24 * steps)
    figure, axes = new_canvas(DOUBLE if across > 1 else SINGLE, height, down, across)
    for axis, (heading, rows) in zip(axes, tables, strict=False):
        _word_table(axis, heading, rows, steps)
    for axis in axes[len(tables) :]:
        axis.set_axis_off()
    caption = (
        f"The {_WORDS} likeliest tokens that the output head reads from each latent of item "
        f"{item}, first rollout, with their probabilities in percent (the shades); ␣ is a space."
    )
    return Drawing(name, title, caption, figure)


def _word_table(axis: Axes, heading: str, rows: pd.DataFrame, steps: int) -> None:
    from matplotlib.patches import Rectangle

    for line, (tokens, chances) in enumerate(
        zip(rows["top_tokens"], rows["top_probs"], strict=True)
    ):
        for column, (token, chance) in enumerate(zip(tokens, chances, strict=True)):
            if column >= _WORDS:
                break
            shade = min(1.0, max(0.05, float(chance)))
            axis.add_patch(Rectangle((column, line), 0.96, 0.92, color=_RIGHT, alpha=shade, lw=0))
            ink = "white" if shade > 0.8 else INK
            share = "<1" if chance < 0.005 else f"{100 * float(chance):.0f}"
            label = f"{_printable(str(token))} {share}"
            axis.text(
                column + 0.48, line + 0.46, label, ha="center", va="center", color=ink, fontsize=6.3
            )
    axis.set(xlim=(0, _WORDS), ylim=(steps, 0), title=heading, ylabel="latent step")
    axis.set_yticks([line + 0.46 for line in range(len(rows))], list(rows["latent_step"]))
    axis.set_xticks([])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def _printable(token: str, width: int = 7) -> str:
    """A token as the figure's font can show it: spaces visible, foreign glyphs as code points."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    named = token.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
    shown = "".join(
        c if c.isprintable() and font.get_char_index(ord(c)) else f"\\u{ord(c):04x}" for c in named
    )
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def _of_item(frame: pd.DataFrame, item: str) -> pd.DataFrame:
    rows = frame.loc[frame["item"] == item]
    rows = rows.sort_values(by=["stage", "rollout", "latent_step"])
    return rows.reset_index(drop=True)
