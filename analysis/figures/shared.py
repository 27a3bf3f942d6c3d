"""What figures share: colours, groups of runs, axes, intervals, legends."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..stats import hierarchical_interval
from ..study import Group, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


SINGLE, DOUBLE = 3.35, 6.9  # column widths in inches


INK = "#1c1e21"  # the text colour of style.mplstyle


STYLE = Path(__file__).parents[1] / "style.mplstyle"


# Okabe and Ito's palette without its yellow, which is too pale on paper; black comes last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)


DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


INIT_COLOUR, INIT_DASHES = "#7a7f87", (0, (1, 2.5))


_LETTER, _HANDLE = 0.057, 0.62  # inches of a letter and of a line sample in a legend


@dataclass(frozen=True)
class Drawing:
    """One figure with its caption; without a `figure` the caption says why it is left out."""

    name: str
    title: str
    caption: str
    figure: Figure | None = None


Painter = Callable[[Study, "Looks", tuple[str, ...]], list[Drawing]]


Looks = Mapping[str, dict[str, Any]]


def looks_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, dashes and marker of each name: no two names share all three, nor rest on colour."""
    distinct = dict.fromkeys(names)
    return {
        name: {
            "color": COLOURS[index % len(COLOURS)],
            "linestyle": DASHES[index % len(DASHES)],
            "marker": MARKERS[index % len(MARKERS)],
        }
        for index, name in enumerate(distinct)
    }


def new_canvas(width: float, height: float, down: int, across: int) -> tuple[Figure, list[Axes]]:
    """A figure of a fixed size in inches and its axes, line by line; no window system is used."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = np.atleast_1d(figure.subplots(down, across)).ravel().tolist()
    return figure, axes


def estimate_of(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and 95 % interval over seeds and items of [seed, item], in percent."""
    interval = hierarchical_interval(values)
    return 100 * interval.mean, 100 * interval.low, 100 * interval.high


def mean_and_range(values: Sequence[float]) -> tuple[float, float, float]:
    mean = float(np.mean(values))
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return mean, mean - deviation, mean + deviation


def draw_intervals(
    axis: Axes,
    points: Mapping[int, tuple[float, float, float]],
    look: Mapping[str, Any],
    shift: float = 1.0,
    hollow: bool = False,
) -> None:
    """A line through (mean, low, high) by x (times `shift`), with error bars."""
    xs = shift * np.asarray(list(points), dtype=float)
    mean, low, high = np.asarray(list(points.values())).T
    bars = np.maximum([mean - low, high - mean], 0.0)
    face = "none" if hollow else look["color"]
    width = 1.0 if hollow else 1.4
    axis.errorbar(
        xs, mean, yerr=bars, **look, markerfacecolor=face, linewidth=width, elinewidth=0.6
    )


def power_ticks(axis: Axes, ks: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(ks), [str(k) for k in ks])
    axis.minorticks_off()
    axis.set_xlabel("k")


def add_legend(
    figure: Figure, looks: Looks, rows: Collection[str], init: bool = False, lines: bool = True
) -> None:
    """One legend below all axes, for which the figure grows: no name covers an axis."""
    from matplotlib.lines import Line2D

    letters = int((figure.get_figwidth() - _HANDLE) / _LETTER)
    names = {row: "\n".join(textwrap.wrap(row, letters)) for row in rows}
    handles = [
        Line2D([], [], **{**looks[row], **({} if lines else {"linestyle": "none"})}, label=name)
        for row, name in names.items()
    ]
    if init:
        look = {"color": INIT_COLOUR, "linestyle": INIT_DASHES, "marker": "o"}
        handles.append(Line2D([], [], **look, markerfacecolor="none", label="init"))
    labels = [str(handle.get_label()) for handle in handles]
    columns = _fitting(labels, figure.get_figwidth())
    down = -(-len(labels) // columns)
    deepest = max(label.count("\n") + 1 for label in labels)
    figure.set_figheight(figure.get_figheight() + 0.08 + 0.15 * down * deepest)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _fitting(labels: Sequence[str], width: float) -> int:
    """The most columns whose longest names fit side by side into a width in inches."""
    lengths = [max(map(len, label.split("\n"))) for label in labels]
    for columns in range(len(labels), 1, -1):
        down = -(-len(labels) // columns)
        longest = [max(lengths[start : start + down]) for start in range(0, len(labels), down)]
        if sum(_LETTER * length + _HANDLE for length in longest) <= width:
            return columns
    return 1


def count_seeds(rows: Mapping[str, Sequence[object]], noun: str = "seed") -> str:
    """`5 seeds each.`, or the number of each row where they differ."""
    counts = {row: len(runs) for row, runs in rows.items()}
    if len(set(counts.values())) == 1:
        count = next(iter(counts.values()))
        return f"{count} {noun}{'s' * (count != 1)}{' each' * (len(counts) > 1)}."
    return f"{noun.title()}s: " + ", ".join(f"{row} {count}" for row, count in counts.items()) + "."


def figure_name(name: str, group: Group, groups: Sequence[Group]) -> str:
    keys = [(each.data, each.model, each.benchmark, each.protocol) for each in groups]
    return name_for(name, (group.data, group.model, group.benchmark, group.protocol), keys)


def name_for(name: str, key: Sequence[str], keys: Collection[Sequence[str]]) -> str:
    """A file name: the figure's own, with the parts of the key in which the keys differ."""
    parts = [part for index, part in enumerate(key) if len({other[index] for other in keys}) > 1]
    return re.sub(r"[^\w.-]+", "-", "_".join([name, *parts]))


def as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
