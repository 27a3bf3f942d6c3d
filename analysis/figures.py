"""The figures of a study, as PDF and PNG: `python -m analysis.figures RUNS... --out DIR`

Each figure has a caption beside it (`captions.md`) that says what its lines and bands are. A figure
that the runs cannot carry is left out, and the captions say why.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.collect import Study, add_inputs, benchmarks_of, collect
from analysis.runs import ITEMS, AnalysisError, Run
from analysis.stats import hierarchical_interval
from analysis.summary import Outcomes
from analysis.variants import row_names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SINGLE, DOUBLE = 3.35, 6.9  # column widths in inches
METRICS, LATENTS = "metrics.csv", "latents.parquet"
INK = "#1c1e21"  # the text colour of style.mplstyle
_STYLE = Path(__file__).with_name("style.mplstyle")

# Okabe and Ito's palette without its yellow, which is too pale on paper; black comes last.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_RIGHT, _WRONG = "#0072B2", "#D55E00"
_INIT_COLOUR, _INIT_DASHES = "#7a7f87", (0, (1, 2.5))

_CURVES = (
    ("train/reward_mean", "mean reward", 1.0),
    ("validation/pass@1", "validation pass@1 (%)", 100.0),
    ("train/zero_variance_groups", "groups without variance (%)", 100.0),
    ("latent/dispersion", "latent dispersion", 1.0),
)
_SMOOTHED = 9  # updates under the moving mean
_WORDS = 5  # tokens shown of each latent
_MAX_PANELS = 4  # methods whose latents one figure shows
_LETTER, _HANDLE = 0.057, 0.62  # inches of a letter and of a line sample in a legend


@dataclass(frozen=True)
class Drawing:
    """One figure with its caption; without a `figure` the caption says why it is left out."""

    name: str
    title: str
    caption: str
    figure: Figure | None = None


@dataclass(frozen=True)
class Group:
    """Runs that share axes: one data set, model and benchmark, by row name, seeds in order."""

    data: str
    model: str
    benchmark: str
    protocol: str
    rows: Mapping[str, tuple[Run, ...]]

    @property
    def title(self) -> str:
        """What the rows have in common, for a heading."""
        return f"{self.benchmark} (data {self.data}, model {self.model})"


Pick = Callable[[Outcomes], "NDArray[Any] | None"]
Painter = Callable[[Study, "Looks", tuple[str, ...]], list[Drawing]]
Looks = Mapping[str, dict[str, Any]]


def draw(
    study: Study, only: Sequence[str] | None = None, over: Sequence[str] = ()
) -> list[Drawing]:
    """The figures of a study in the order of `FIGURES`, all or those named in `only`.

    `over` names the two config keys of the heat map. AnalysisError for unreadable files and for an
    unknown name.
    """
    import matplotlib

    unknown = [name for name in only or () if name not in FIGURES]
    if unknown:
        raise AnalysisError(f"--only {unknown[0]}: choose from {', '.join(FIGURES)}")
    methods = {run.method for run in study.runs}
    looks = looks_of([*sorted(methods), *sorted(set(study.names.values()))])
    drawings: list[Drawing] = []
    with matplotlib.rc_context(fname=_STYLE):
        for name in FIGURES if only is None else only:
            drawings += FIGURES[name](study, looks, tuple(over))
    return drawings


def save(drawings: Sequence[Drawing], out: Path) -> list[Path]:
    """Write each figure as PDF and PNG and all captions to `captions.md`; the paths written."""
    import matplotlib

    out.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(fname=_STYLE):
        for drawing in drawings:
            if drawing.figure is None:
                continue
            # No dates and no versions: the same runs give the same bytes.
            pdf, png = out / f"{drawing.name}.pdf", out / f"{drawing.name}.png"
            drawing.figure.savefig(pdf, metadata={"CreationDate": None, "Producer": None})
            drawing.figure.savefig(png, metadata={"Software": None})
            written += [pdf, png]
    captions = out / "captions.md"
    captions.write_text(_captions(drawings), encoding="utf-8", newline="\n")
    return [*written, captions]


def svg(drawing: Drawing) -> str:
    """A figure as an SVG element for a page: ink as `currentColor`, no ids of its own axes.

    Raises ValueError for a drawing without a figure.
    """
    import matplotlib

    if drawing.figure is None:
        raise ValueError(f"{drawing.name}: there is no figure: {drawing.caption}")
    out = StringIO()
    with matplotlib.rc_context(fname=_STYLE):
        drawing.figure.savefig(
            out, format="svg", facecolor="none", metadata={"Date": None, "Creator": None}
        )
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The page sets the size: a class says which of the two widths the figure was made for.
    wide = "double" if drawing.figure.get_figwidth() > SINGLE else "single"
    text = re.sub(
        r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', rf'\g<1>class="{wide}"', text, count=1
    )
    # Ids are for the whole page: those that nothing refers to go, the others get the figure's name.
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(
        r' id="([^"]+)"',
        lambda match: f' id="{drawing.name}-{match[1]}"' if match[1] in used else "",
        text,
    )
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{drawing.name}-", text).strip()


def looks_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, dashes and marker of each name: no two names share all three, nor rest on colour."""
    distinct = dict.fromkeys(names)
    return {
        name: {
            "color": _COLOURS[index % len(_COLOURS)],
            "linestyle": _DASHES[index % len(_DASHES)],
            "marker": _MARKERS[index % len(_MARKERS)],
        }
        for index, name in enumerate(distinct)
    }


def groups_of(
    study: Study, names: Mapping[Path, str] | None = None, protocols: bool = True
) -> list[Group]:
    """The runs by what may share axes, in order of data, model, benchmark (and protocol)."""
    names = study.names if names is None else names
    found: dict[tuple[str, str, str, str], dict[str, list[Run]]] = {}
    for run in study.runs:
        for benchmark in benchmarks_of(run):
            key = (run.data, run.model, benchmark, run.protocol_id if protocols else "")
            found.setdefault(key, {}).setdefault(names[run.path], []).append(run)
    return [
        Group(
            *key,
            {name: tuple(sorted(rows[name], key=lambda run: run.seed)) for name in sorted(rows)},
        )
        for key, rows in sorted(found.items())
    ]


def matrix(
    study: Study, runs: Sequence[Run], benchmark: str, stage: str, pick: Pick
) -> NDArray[np.float64] | None:
    """Outcomes [seed, item] of one row, as `pick` takes them from the outcomes of each run.

    None where a run lacks the stage or the decoding. AnalysisError where the seeds answer different
    items.
    """
    values, uids = [], set()
    for run in runs:
        if stage == "init" and not any(
            name.startswith(f"init/{benchmark}/") for name in run.metrics
        ):
            return None
        outcome = study.outcomes(run, benchmark, stage)
        picked = pick(outcome)
        if picked is None:
            return None
        values.append(picked)
        uids.add(outcome.items)
    if len(uids) > 1:
        raise AnalysisError(
            f"{runs[0].path / ITEMS}: seeds of {runs[0].method} answer different items of "
            f"{benchmark!r}; evaluate them under one protocol"
        )
    return np.asarray(values, dtype=float)


def greedy(outcome: Outcomes) -> NDArray[Any] | None:
    """The greedy grades, for `matrix`."""
    return outcome.greedy


def passed(k: int) -> Pick:
    """pass@k of the sampled answers, for `matrix`."""
    return lambda outcome: outcome.pass_at(k) if outcome.samples >= k else None


# --- learning curves ------------------------------------------------------------------------------


def learning_curves(study: Study, looks: Looks, over: tuple[str, ...]) -> list[Drawing]:
    """Reward, validation accuracy, share of zero-variance groups and dispersion over updates."""
    names = study.names
    families: dict[tuple[str, str], dict[str, list[pd.DataFrame]]] = {}
    for run in sorted(study.runs, key=lambda run: (names[run.path], run.seed)):
        frame = _metrics(run)
        if frame is not None:
            rows = families.setdefault((run.data, run.model), {})
            rows.setdefault(names[run.path], []).append(frame)
    if not families:
        return [Drawing("learning_curves", "Learning curves", f"Left out: no run has a {METRICS}.")]
    return [
        _learning_curves(_named("learning_curves", key, families), f"data {key[0]}", rows, looks)
        for key, rows in sorted(families.items())
    ]


def _learning_curves(
    name: str, where: str, rows: Mapping[str, list[pd.DataFrame]], looks: Looks
) -> Drawing:
    title = f"Learning curves, {where}"
    every = [frame for frames in rows.values() for frame in frames]
    curves = [curve for curve in _CURVES if any(curve[0] in frame for frame in every)]
    if not curves:
        return Drawing(name, title, f"Left out: no curve in {METRICS}.")
    across = len(curves) if len(curves) < 4 else 2
    down = -(-len(curves) // across)
    width = DOUBLE if across > 1 else SINGLE
    figure, axes = _canvas(width, 1.7 * down, down, across)
    for axis, (column, label, scale) in zip(axes, curves, strict=True):
        for row, frames in rows.items():
            _curve(axis, [frame for frame in frames if column in frame], column, scale, looks[row])
        axis.set(xlabel="update", ylabel=label)
        axis.margins(x=0.02)
    _legend(figure, looks, rows)
    caption = (
        f"{_sentence(', '.join(label for _, label, _ in curves))} "
        "Thin lines: seeds; thick line: their mean; band: one sample standard deviation over "
        "seeds. Training curves are centred moving means "
        f"over {_SMOOTHED} updates; validation is shown as measured. {_seeds(rows)}"
    )
    return Drawing(name, title, caption, figure)


def _curve(
    axis: Axes, frames: Sequence[pd.DataFrame], column: str, scale: float, look: Mapping[str, Any]
) -> None:
    import pandas as pd

    if not frames:
        return
    smooth = column.startswith("validation/") is False
    series = []
    for frame in frames:
        values = frame.set_index("step")[column].dropna() * scale
        if smooth:
            values = values.rolling(_SMOOTHED, center=True, min_periods=1).mean()
        series.append(values)
    table = pd.concat(series, axis=1, join="inner")
    steps, mean = table.index.to_numpy(dtype=float), table.mean(axis=1).to_numpy()
    if len(series) > 1:
        for each in series:
            axis.plot(each.index, each, color=look["color"], linewidth=0.5, alpha=0.4)
        deviation = table.std(axis=1, ddof=1).to_numpy()
        low, high = mean - deviation, mean + deviation
        axis.fill_between(steps, low, high, color=look["color"], alpha=0.15, linewidth=0)
    marker = None if smooth else look["marker"]
    axis.plot(steps, mean, color=look["color"], linestyle=look["linestyle"], marker=marker)


def _metrics(run: Run) -> pd.DataFrame | None:
    """The metrics of a run; None where it left none (an SFT method, say)."""
    import pandas as pd

    path = run.path / METRICS
    if not path.is_file():
        return None
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas reports broken files as ValueErrors
        line = str(error).strip().splitlines()[0]
        raise AnalysisError(f"{path}: cannot be read ({line}); run again or remove it") from error
    return frame if "step" in frame and len(frame) else None


# --- accuracies -----------------------------------------------------------------------------------


def pass_at_k(study: Study, looks: Looks, over: tuple[str, ...]) -> list[Drawing]:
    """pass@k of init and final, and the gain at each k, for every group with sampled answers."""
    groups = groups_of(study)
    return [
        _pass_at_k(study, group, _group_name("pass_at_k", group, groups), looks) for group in groups
    ]


def _pass_at_k(study: Study, group: Group, name: str, looks: Looks) -> Drawing:
    title = f"pass@k, {group.title}"
    curves = {row: _k_curves(study, runs, group.benchmark) for row, runs in group.rows.items()}
    curves = {row: curve for row, curve in curves.items() if "final" in curve}
    if not curves:
        return Drawing(name, title, "Left out: no sampled answers.")
    paired = {row: curve for row, curve in curves.items() if "init" in curve}
    figure, axes = _canvas(DOUBLE if paired else SINGLE, 2.3, 1, 2 if paired else 1)
    for index, (row, curve) in enumerate(curves.items()):
        # Bars beside, not over, each other.
        shift = 1 + min(0.04, 0.2 / len(curves)) * (index - (len(curves) - 1) / 2)
        _with_intervals(axes[0], curve["final"], looks[row], shift)
        if row in paired:
            _with_intervals(axes[1], curve["gain"], looks[row], shift)
    shared = _draw_inits(axes[0], paired, looks)
    axes[0].set(ylabel="pass@k (%)")
    if paired:
        axes[1].axhline(0, color=INK, linewidth=0.6)
        axes[1].set(ylabel="final - init (points)")
    for axis in axes:
        _powers(axis, sorted({k for curve in curves.values() for k in curve["final"]}))
    _legend(figure, looks, curves, init=bool(paired))
    own = "the init that all share (grey)" if shared else "each one's own init (hollow, dotted)"
    caption = "Unbiased pass@k of the sampled answers. "
    if paired:
        caption += f"Left: final, and {own}; right: gain over own init. "
    caption += f"Bars: 95 % intervals over seeds and items. {_seeds(group.rows)}"
    return Drawing(name, title, caption, figure)


def _k_curves(
    study: Study, runs: Sequence[Run], benchmark: str
) -> dict[str, dict[int, tuple[float, float, float]]]:
    """For final, init and their difference: k to mean and interval, in percent."""
    samples = min((study.outcomes(run, benchmark, "final").samples for run in runs), default=0)
    curves: dict[str, dict[int, tuple[float, float, float]]] = {}
    for k in (2**power for power in range(samples.bit_length())):
        final = matrix(study, runs, benchmark, "final", passed(k))
        start = matrix(study, runs, benchmark, "init", passed(k))
        if final is not None:
            curves.setdefault("final", {})[k] = _estimate(final)
        if start is not None and final is not None:
            curves.setdefault("init", {})[k] = _estimate(start)
            curves.setdefault("gain", {})[k] = _estimate(final - start)
    return curves


def _draw_inits(axis: Axes, curves: Mapping[str, Mapping[str, Any]], looks: Looks) -> bool:
    """Draw the inits, once if all rows start from the same; whether they do."""
    distinct = {json.dumps(curve["init"]) for curve in curves.values()}
    for row, curve in curves.items():
        shared = len(distinct) == 1
        look = {"color": _INIT_COLOUR} if shared else {"color": looks[row]["color"]}
        look |= {"linestyle": _INIT_DASHES, "marker": "o" if shared else looks[row]["marker"]}
        _with_intervals(axis, curve["init"], look, hollow=True)
        if shared:
            return True
    return False


def latent_steps(study: Study, looks: Looks, over: tuple[str, ...]) -> list[Drawing]:
    """Greedy accuracy against the number of latent steps, where the runs have several."""
    names = row_names(study.runs, apart=("latent", "curriculum", "sft", "choices.curriculum"))
    groups = groups_of(study, names, protocols=False)
    return [
        _latent_steps(group, _group_name("latent_steps", group, groups), looks) for group in groups
    ]


def _latent_steps(group: Group, name: str, looks: Looks) -> Drawing:
    title = f"Accuracy against latent steps, {group.title}"
    curves = {row: _by_steps(runs, group.benchmark) for row, runs in group.rows.items()}
    steps = sorted({step for curve in curves.values() for step in curve})
    if len(steps) < 2:
        said = f"every answer has {steps[0]} latent steps" if steps else "no greedy answers"
        return Drawing(name, title, f"Left out: {said}.")
    figure, (axis,) = _canvas(SINGLE, 2.3, 1, 1)
    looks = looks_of([*looks, *curves])
    for row, curve in curves.items():
        look = looks[row]
        points = {step: _over_seeds(values) for step, values in sorted(curve.items())}
        _with_intervals(axis, points, look)
    axis.set(xlabel="latent steps", ylabel="pass@1 (%)", xticks=steps)
    _legend(figure, looks, curves)
    caption = (
        "Greedy pass@1 of the answers with each number of latent steps, mean over runs; bars: one "
        "sample standard deviation over runs. Where steps vary within a run, harder items may "
        f"have more of them. {_seeds(group.rows, 'run')}"
    )
    return Drawing(name, title, caption, figure)


def _by_steps(runs: Sequence[Run], benchmark: str) -> dict[int, list[float]]:
    """Greedy accuracy in percent of each run, by the number of latent steps of the answers."""
    found: dict[int, list[float]] = {}
    for run in runs:
        rows = _greedy(run, benchmark)
        for step, graded in rows.groupby("latent_steps")["correct"]:
            found.setdefault(int(str(step)), []).append(100 * float(graded.to_numpy().mean()))
    return found


def _greedy(run: Run, benchmark: str) -> pd.DataFrame:
    columns = ("benchmark", "stage", "correct", "latent_steps", "answer_tokens")
    rows = run.items((*columns, "decode"), decode="greedy")
    return rows.loc[(rows["benchmark"] == benchmark) & (rows["stage"] == "final")]


def cost(study: Study, looks: Looks, over: tuple[str, ...]) -> list[Drawing]:
    """Greedy accuracy against latent steps + answer tokens, with the frontier."""
    groups = groups_of(study, protocols=False)
    return [_cost(group, _group_name("cost", group, groups), looks) for group in groups]


def _cost(group: Group, name: str, looks: Looks) -> Drawing:
    title = f"Accuracy and cost, {group.title}"
    points = {row: _costs(runs, group.benchmark) for row, runs in group.rows.items()}
    points = {row: each for row, each in points.items() if len(each)}
    if not points:
        return Drawing(name, title, "Left out: no greedy answers.")
    means = {row: each.mean(axis=0) for row, each in points.items()}
    prices = [mean[0] for mean in means.values()]
    if max(prices) - min(prices) < 0.01 * max(prices):
        said = f"every row costs {np.mean(prices):.1f} latent steps and answer tokens per item"
        return Drawing(name, title, f"Left out: {said}.")
    figure, (axis,) = _canvas(SINGLE if len(points) <= 8 else DOUBLE, 2.4, 1, 1)
    for row, each in points.items():
        look = looks[row]
        axis.scatter(*each.T, s=6, color=look["color"], alpha=0.35, linewidth=0)
        axis.plot(*means[row], color=look["color"], marker=look["marker"], markersize=6)
    frontier = _frontier(list(means.values()))
    axis.step(*np.transpose(frontier), where="post", color=INK, linewidth=0.7, zorder=1)
    axis.set(xlabel="latent steps + answer tokens per item", ylabel="pass@1 (%)")
    axis.margins(0.12)
    _legend(figure, looks, points, lines=False)
    caption = (
        "Greedy pass@1 against the mean number of sequential forward passes of an answer (latent "
        "steps + answer tokens). Small points: seeds; large: their mean. The line joins the rows "
        f"that no cheaper row matches. {_seeds(group.rows)}"
    )
    return Drawing(name, title, caption, figure)


def _costs(runs: Sequence[Run], benchmark: str) -> NDArray[np.float64]:
    """(cost, accuracy in percent) of each run with greedy answers, as [run, 2]."""
    found = []
    for run in runs:
        rows = _greedy(run, benchmark)
        if len(rows):
            passes = rows["latent_steps"].to_numpy() + rows["answer_tokens"].to_numpy()
            found.append((float(passes.mean()), 100 * float(rows["correct"].to_numpy().mean())))
    return np.asarray(found, dtype=float).reshape(-1, 2)


def _frontier(points: Sequence[NDArray[np.float64]]) -> list[tuple[float, float]]:
    """The points that no cheaper or equally cheap point reaches, from cheap to dear."""
    kept: list[tuple[float, float]] = []
    for price, accuracy in sorted((float(x), float(y)) for x, y in points):
        if not kept or accuracy > kept[-1][1]:
            if kept and kept[-1][0] == price:
                kept.pop()
            kept.append((price, accuracy))
    return kept


# --- ablation -------------------------------------------------------------------------------------


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
        drawings += _ablations(group, over, _group_name("ablation", group, groups))
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
    lines, columns = (sorted({key[axis] for key in cells}, key=_numeric) for axis in (0, 1))
    grid = np.full((len(lines), len(columns)), np.nan)
    for (first, second), values in cells.items():
        grid[lines.index(first), columns.index(second)] = float(np.mean(values))
    width = SINGLE if len(columns) <= 5 else DOUBLE
    figure, (axis,) = _canvas(width, 1.0 + 0.32 * len(lines), 1, 1)
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


# --- latents --------------------------------------------------------------------------------------


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
            drawing = painter(_group_name(name, group, groups), full, first)
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
    figure, axes = _canvas(width, 0.3 + 1.95 * len(held), len(held), len(stages))
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
    figure, axes = _canvas(DOUBLE if across > 1 else SINGLE, height, down, across)
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


# --- shared ---------------------------------------------------------------------------------------


def _canvas(width: float, height: float, down: int, across: int) -> tuple[Figure, list[Axes]]:
    """A figure of a fixed size in inches and its axes, line by line; no window system is used."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = np.atleast_1d(figure.subplots(down, across)).ravel().tolist()
    return figure, axes


def _estimate(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and 95 % interval over seeds and items of [seed, item], in percent."""
    interval = hierarchical_interval(values)
    return 100 * interval.mean, 100 * interval.low, 100 * interval.high


def _over_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    mean = float(np.mean(values))
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return mean, mean - deviation, mean + deviation


def _with_intervals(
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


def _powers(axis: Axes, ks: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(ks), [str(k) for k in ks])
    axis.minorticks_off()
    axis.set_xlabel("k")


def _legend(
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
        look = {"color": _INIT_COLOUR, "linestyle": _INIT_DASHES, "marker": "o"}
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


def _seeds(rows: Mapping[str, Sequence[object]], noun: str = "seed") -> str:
    """`5 seeds each.`, or the number of each row where they differ."""
    counts = {row: len(runs) for row, runs in rows.items()}
    if len(set(counts.values())) == 1:
        count = next(iter(counts.values()))
        return f"{count} {noun}{'s' * (count != 1)}{' each' * (len(counts) > 1)}."
    return f"{noun.title()}s: " + ", ".join(f"{row} {count}" for row, count in counts.items()) + "."


def _group_name(name: str, group: Group, groups: Sequence[Group]) -> str:
    keys = [(each.data, each.model, each.benchmark, each.protocol) for each in groups]
    return _named(name, (group.data, group.model, group.benchmark, group.protocol), keys)


def _named(name: str, key: Sequence[str], keys: Collection[Sequence[str]]) -> str:
    """A file name: the figure's own, with the parts of the key in which the keys differ."""
    parts = [part for index, part in enumerate(key) if len({other[index] for other in keys}) > 1]
    return re.sub(r"[^\w.-]+", "-", "_".join([name, *parts]))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _numeric(text: str) -> tuple[int, float, str]:
    """Numbers in their order, before texts in theirs."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def _captions(drawings: Sequence[Drawing]) -> str:
    parts = [f"## {drawing.title}\n\n" + (f"`{drawing.name}` " if drawing.figure else "")
             + f"{drawing.caption}\n" for drawing in drawings]  # fmt: skip
    return "# Figures\n\n" + "\n".join(parts)


FIGURES: Mapping[str, Painter] = {
    "learning_curves": learning_curves,
    "pass_at_k": pass_at_k,
    "latent_steps": latent_steps,
    "cost": cost,
    "ablation": ablation,
    "trajectories": trajectories,
    "thoughts": thoughts,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figures; 0, or 2 after one line that says what to change."""
    options = _parser().parse_args(arguments)
    try:
        study = collect(options.folders, options.allow)
        drawings = draw(study, options.only, options.over)
        written = save(drawings, options.out)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for drawing in drawings:
        if drawing.figure is None:
            print(f"{drawing.name}: {drawing.caption}")
    print("\n".join(map(str, written)))
    return 0


def names_of(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated option, without spaces around them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.figures", description=__doc__)
    add_inputs(parser)
    parser.add_argument("--out", type=Path, required=True, help="the folder the figures go to")
    parser.add_argument(
        "--only", type=names_of, help=f"some of {', '.join(FIGURES)} (comma-separated)"
    )
    parser.add_argument(
        "--over", type=names_of, default=(), help="two config keys for the heat map, as "
        "noise.rate,noise.scope",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
