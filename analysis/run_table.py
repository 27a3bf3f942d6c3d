"""What one run did to its benchmarks, with intervals and paired tests: the table at a run's end.

`python -m analysis.run_table RUN_DIR` prints it again from the files of the run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .metrics import (
    GREEDY,
    Metric,
    accuracies,
    majority,
    sampled_pass,
    split_metric,
)
from .outcomes import COLUMNS as READ
from .outcomes import STAGES, Outcomes, outcomes
from .runs import ITEMS, AnalysisError, Run, naming, read_run
from .stats import (
    bootstrap_mean_interval,
    mcnemar,
    paired_difference,
    wilson_interval,
)
from .study import check_items
from .table import percent

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

_STAGE_COLUMNS = ("", "_low", "_high")
COLUMNS = (
    "benchmark",
    "metric",
    "items",
    *(f"{stage}{end}" for stage in STAGES for end in _STAGE_COLUMNS),
    *(f"difference{end}" for end in _STAGE_COLUMNS),
    "p",
)
_PIPED_WIDTH = 100


def run_table(run_dir: Path | str, ks: Sequence[int] | None = None) -> pd.DataFrame:
    """One row for each benchmark and metric, with the columns `COLUMNS`; figures are fractions.

    Intervals are 95 %: Wilson for 0/1 outcomes, bootstrap over items for pass@k with k below the
    number of samples. `difference` is final - init on the same items with its paired bootstrap
    interval; `p` is McNemar's, where outcomes are 0/1. Without a stage init these are NaN. `ks`
    defaults to those in the run's metrics, or the powers of two up to the number of samples where
    the record has none yet. Raises AnalysisError where the files do not carry the table.
    """
    import pandas as pd

    run = read_run(run_dir)
    items = run.items(READ)
    rows: list[dict[str, Any]] = []
    with naming(run.path / ITEMS):
        for benchmark in sorted(items["benchmark"].unique()):
            present = set(items.loc[items["benchmark"] == benchmark, "stage"])
            stages = {
                stage: outcomes(items, benchmark, stage) for stage in STAGES if stage in present
            }
            rows += _benchmark_rows(benchmark, stages, _metrics(run, benchmark, stages, ks))
    if not rows:
        raise AnalysisError(f"{run.path / ITEMS}: no rows of stage init or final; evaluate again")
    return pd.DataFrame(rows, columns=list(COLUMNS))


def render(run_dir: Path | str, console: Console | None = None) -> None:
    """Print the run table: coloured in a terminal, plain lines 100 characters wide in a pipe."""
    from rich.console import Console
    from rich.text import Text

    frame = run_table(run_dir)
    run = read_run(run_dir)
    if run.status == "completed":
        check_items(run)
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    console = console or Console(width=width, highlight=False)
    status = "" if run.status == "completed" else f", {run.status}"
    title = f"{run.method} on {run.data}, {run.model}, seed {run.seed} (run {run.run_id}{status})"
    console.print(Text(title, style="bold"))
    paired = bool(frame["init"].notna().any())
    for benchmark, rows in frame.groupby("benchmark", sort=True):
        console.print()
        console.print(_table(str(benchmark), rows, paired))
    legend = "Percent of items [95 % interval]."
    if paired:
        legend += " final - init: points, paired over items. p: exact McNemar."
    console.print()
    console.print(Text(legend, style="dim"))
    for remark in run.remarks:
        console.print(Text(f"Note: {remark}.", style="bold yellow"), soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of one run; 0, or 2 after one line that says what to change."""
    parser = argparse.ArgumentParser(prog="python -m analysis.run_table", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="a folder with result.json and items.parquet")
    try:
        render(parser.parse_args(arguments).run_dir)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _metrics(
    run: Run, benchmark: str, stages: dict[str, Outcomes], ks: Sequence[int] | None
) -> list[Metric]:
    """Greedy, sampled, majority, as far as all stages have them."""
    samples = min(outcome.samples for outcome in stages.values())
    if samples == 0:
        return [GREEDY]
    if ks is None:
        names = run.result.get("metrics") or {}
        own = accuracies(name for name in names if split_metric(name)[0] == benchmark)
        chosen = [metric for metric in own if metric != GREEDY and "pass@" in metric.name]
        chosen = chosen or [sampled_pass(2**power) for power in range(samples.bit_length())]
    else:
        chosen = [sampled_pass(k) for k in sorted(set(ks))]
    return [GREEDY, *chosen, majority(samples)]


def _benchmark_rows(
    benchmark: str, stages: dict[str, Outcomes], metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """The rows of one benchmark, one for each metric."""
    held = list(stages.values())
    if any(outcome.items != held[0].items for outcome in held):
        raise ValueError(f"benchmark {benchmark!r}: init and final answer different items")
    if len({outcome.samples for outcome in held}) > 1:
        raise ValueError(f"benchmark {benchmark!r}: init and final have unequal samples per item")
    rows = []
    for metric in metrics:
        values = {stage: metric.per_item(outcome) for stage, outcome in stages.items()}
        if all(value is not None for value in values.values()):
            rows.append(_row(metric.heading, _outcomes_of(values)))
        elif metric != GREEDY:  # what is sampled alone has no greedy answers
            raise ValueError(f"{metric.name}: the items have {held[0].samples} samples each")
    return [{"benchmark": benchmark, "items": len(held[0].items), **row} for row in rows]


def _outcomes_of(values: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Values per item; where all are 0 or 1, as those of pass@k over all samples, typed as such."""
    plain = all(np.isin(value, (0, 1)).all() for value in values.values())
    return {stage: np.asarray(v, dtype=bool if plain else float) for stage, v in values.items()}


def _row(metric: str, values: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"metric": metric}
    for stage, outcome in values.items():
        row[stage] = float(outcome.mean())
        row[f"{stage}_low"], row[f"{stage}_high"] = _interval(outcome)
    if len(values) == len(STAGES):
        gain = paired_difference(values["final"], values["init"])
        row |= {"difference": gain.mean, "difference_low": gain.low, "difference_high": gain.high}
        if values["final"].dtype == bool:
            row["p"] = mcnemar(values["final"], values["init"]).p
    return row


def _interval(values: NDArray[Any]) -> tuple[float, float]:
    if values.dtype == bool:
        return wilson_interval(int(values.sum()), values.size)
    return bootstrap_mean_interval(values)


def _table(benchmark: str, rows: pd.DataFrame, paired: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Least widths set the columns of several benchmarks under each other: a stage fits
    # "100.0 [100.0, 100.0]", a difference "+12.3 [+10.1, +14.5]".
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    size = f"{int(rows['items'].iloc[0]):,} items"
    table.add_column(Text(f"{benchmark}\n{size}"), min_width=16)
    stages = STAGES if paired else ("final",)
    for stage in stages:
        table.add_column(f"\n{stage}", justify="right", min_width=20)
    if paired:
        table.add_column("\nfinal - init", justify="right", min_width=20)
        table.add_column("\np", justify="right", min_width=7)
    for row in rows.to_dict("records"):
        cells = [_estimate(row, stage, signed=False) for stage in stages]
        if paired:
            cells += [_estimate(row, "difference", signed=True), _p_value(row["p"])]
        table.add_row(row["metric"], *cells)
    return table


def _estimate(row: dict[Any, Any], name: str, signed: bool) -> Any:
    """A Text, not a string: rich would read the brackets of an interval as markup."""
    from rich.text import Text

    if np.isnan(row[name]):
        return Text("")
    mean, low, high = (percent(row[f"{name}{end}"], signed) for end in _STAGE_COLUMNS)
    return Text(f"{mean} [{low}, {high}]")


def _p_value(p: float) -> str:
    if np.isnan(p):
        return ""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


if __name__ == "__main__":
    sys.exit(main())
