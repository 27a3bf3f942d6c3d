"""Learning curves: reward, validation, groups without variance, dispersion over updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..runs import AnalysisError, Run
from ..study import Study
from .shared import (
    DOUBLE,
    SINGLE,
    Drawing,
    Looks,
    add_legend,
    as_sentence,
    count_seeds,
    name_for,
    new_canvas,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


METRICS = "metrics.csv"


_CURVES = (
    ("train/reward_mean", "mean reward", 1.0),
    ("validation/pass@1", "validation pass@1 (%)", 100.0),
    ("train/zero_variance_groups", "groups without variance (%)", 100.0),
    ("latent/dispersion", "latent dispersion", 1.0),
)


_SMOOTHED = 9  # updates under the moving mean


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
        _learning_curves(name_for("learning_curves", key, families), f"data {key[0]}", rows, looks)
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
    figure, axes = new_canvas(width, 1.7 * down, down, across)
    for axis, (column, label, scale) in zip(axes, curves, strict=True):
        for row, frames in rows.items():
            _curve(axis, [frame for frame in frames if column in frame], column, scale, looks[row])
        axis.set(xlabel="update", ylabel=label)
        axis.margins(x=0.02)
    add_legend(figure, looks, rows)
    caption = (
        f"{as_sentence(', '.join(label for _, label, _ in curves))} "
        "Thin lines: seeds; thick line: their mean; band: one sample standard deviation over "
        "seeds. Training curves are centred moving means "
        f"over {_SMOOTHED} updates; validation is shown as measured. {count_seeds(rows)}"
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
