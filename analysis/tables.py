"""The tables of a study, from run directories: `python -m analysis.tables <folder of runs>...`

One row for each method, its mean and sample deviation over seeds, and its gain over its own init
with a paired bootstrap interval over items. Runs that may not share a table are named and refused.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.collect import (
    Study,
    add_inputs,
    benchmarks_of,
    collect,
    init_notes,
    left_out,
    made_from,
)
from analysis.layout import (
    Figure,
    Group,
    Row,
    Table,
    comma_separated,
    html,
    latex,
    markdown,
    one_line_each,
)
from analysis.runs import ITEMS, RESULT, AnalysisError, Run
from analysis.spec import read_spec
from analysis.spec_table import build_spec, keeps
from analysis.stats import mean_std, paired_difference
from analysis.summary import metric_of

_INIT = re.compile(r"init/[^/]+/pass@1")
_ACCURACY = re.compile(
    r"(?P<benchmark>[^/]+)/(?:pass@(?P<k>\d+)|(?P<sampled>sampled_pass@1)|maj@(?P<n>\d+))"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and write the tables; 0, or 2 after one line that says what to change."""
    options = _parser().parse_args(arguments)
    try:
        _check_options(options)
        spec = read_spec(options.spec, options.over) if options.spec else None
        if spec is None:
            table = build(collect(options.folders, options.allow), options.k)
            name, commas = "table", comma_separated
        else:
            study = collect(options.folders, options.allow, lambda run: keeps(spec, run))
            table, name, commas = build_spec(study, spec), Path(spec.source).stem, one_line_each
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    out = options.out or options.folders[0]
    out.mkdir(parents=True, exist_ok=True)
    for ending, spelled in (("md", markdown), ("tex", latex), ("csv", commas), ("html", html)):
        file = out / f"{name}.{ending}"
        file.write_text(spelled(table), encoding="utf-8", newline="\n")
    print(markdown(table), end="")
    return 0


def _check_options(options: argparse.Namespace) -> None:
    if options.over and not options.spec:
        raise AnalysisError(f"--over {options.over}: needs --spec, as in --spec ablation")
    if options.k and options.spec:
        raise AnalysisError("--k: a spec lists its own columns, as in columns: [pass@2, pass@8]")
    first = options.folders[0]
    if options.out is None and (not isinstance(first, Path) or (first / RESULT).is_file()):
        raise AnalysisError(f"{first}: runs are not written into; say with --out where tables go")


def build(study: Study, ks: Sequence[int] | None = None) -> Table:
    """The table of everything in a study; `ks` are the k of pass@k, by default all in the runs."""
    runs, names = study.runs, study.names
    columns = _columns(runs, ks)
    members: dict[tuple[str, str, str, str], dict[str, list[Run]]] = {}
    for run in runs:
        for benchmark in benchmarks_of(run):
            group = members.setdefault((run.data, run.model, benchmark, run.protocol_id), {})
            group.setdefault(names[run.path], []).append(run)
    groups = []
    for (data, model, benchmark, protocol), methods in sorted(members.items()):
        rows = [
            _row(study, name, benchmark, columns, ks is not None, by_seed(own))
            for name, own in sorted(methods.items())
        ]
        groups.append(Group(data, model, benchmark, protocol, tuple(rows)))
    headings = tuple((column, _heading(column)) for column in columns)
    return Table(headings, tuple(groups), tuple(_notes(study, groups)))


def by_seed(runs: Sequence[Run]) -> list[Run]:
    """Runs in the order of their seeds."""
    return sorted(runs, key=lambda run: run.seed)


def _row(
    study: Study,
    name: str,
    benchmark: str,
    columns: Sequence[str],
    asked: bool,
    runs: Sequence[Run],
) -> Row:
    figures = {}
    for column in columns:
        if column == "gain":
            figure = _gain(study, benchmark, runs)
        elif column == "init":
            figure = _over_seeds(runs, f"init/{benchmark}/pass@1", required=False)
        else:
            required = column == "pass@1" or (asked and not column.startswith("maj@"))
            figure = _over_seeds(runs, f"{benchmark}/{column}", required)
        if figure is not None:
            figures[column] = figure
    return Row(name, tuple(run.run_id for run in runs), figures)


def _over_seeds(runs: Sequence[Run], metric: str, required: bool) -> Figure | None:
    """The mean of a metric over seeds; None where no run has it and nobody asked for it."""
    if not required and not any(metric in run.metrics for run in runs):
        return None
    for run in runs:
        if metric not in run.metrics:
            start = metric.rpartition("/")[0] + "/"
            own = [name for name in run.metrics if name.startswith(start) and "@" in name]
            raise AnalysisError(
                f"{run.path / RESULT}: no metric {metric!r}: not in protocol {run.protocol_id}, "
                f"which has {', '.join(own) or 'none'}; change --k or leave the run out"
            )
    mean, std = mean_std([run.metric(metric) for run in runs])
    return Figure(mean, std)


def _gain(study: Study, benchmark: str, runs: Sequence[Run]) -> Figure | None:
    """Greedy pass@1 over that of the own init: over seeds, and over items averaged over seeds."""
    if not any(f"init/{benchmark}/pass@1" in run.metrics for run in runs):
        return None
    finals, inits, uids = [], [], set()
    for run in runs:
        for stage, rows in (("final", finals), ("init", inits)):
            items, greedy = _greedy(study, run, benchmark, stage)
            rows.append(greedy)
            uids.add(items)
            if len(uids) > 1:
                raise AnalysisError(
                    f"{run.path / ITEMS}: other items of {benchmark!r} at stage {stage!r} than in "
                    f"{runs[0].path / ITEMS}; evaluate again"
                )
    mean, std = mean_std(
        [final.mean() - init.mean() for final, init in zip(finals, inits, strict=True)]
    )
    over_items = paired_difference(np.mean(finals, axis=0), np.mean(inits, axis=0))
    return Figure(mean, std, (over_items.low, over_items.high), signed=True)


def _greedy(
    study: Study, run: Run, benchmark: str, stage: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """Item uids and greedy outcomes."""
    outcome = study.outcomes(run, benchmark, stage)
    if outcome.greedy is None:
        raise AnalysisError(f"{run.path / ITEMS}: no greedy answers of {benchmark!r}, {stage}")
    return outcome.items, outcome.greedy


def _columns(runs: Sequence[Run], ks: Sequence[int] | None) -> list[str]:
    """Column keys in reading order: greedy, sampled, majority, then where the run came from."""
    found_ks: set[int] = set()
    votes: set[int] = set()
    for name in (name for run in runs for name in run.metrics):
        match = _ACCURACY.fullmatch(name)
        if match and match["sampled"]:
            found_ks.add(1)
        elif match and match["k"] and int(match["k"]) > 1:
            found_ks.add(int(match["k"]))
        elif match and match["n"]:
            votes.add(int(match["n"]))
    sampled = [metric_of(k) for k in (sorted(found_ks) if ks is None else ks)]
    start = any(_INIT.fullmatch(name) for run in runs for name in run.metrics)
    majority = [f"maj@{n}" for n in sorted(votes)]
    return ["pass@1", *sampled, *majority, *(["init", "gain"] if start else [])]


def _heading(column: str) -> str:
    named = {
        "pass@1": "pass@1 (greedy)",
        "sampled_pass@1": "pass@1 (sampled)",
        "init": "init pass@1",
        "gain": "gain over init",
    }
    return named.get(column, column)


def _notes(study: Study, groups: Sequence[Group]) -> list[str]:
    runs = study.runs
    notes = [
        made_from(runs),
        "Percent of items; ± is the sample standard deviation over seeds, absent for one seed. "
        "Gains are points over the method's own init, with the 95 % paired bootstrap interval over "
        "items (per-item differences averaged over seeds).",
        *left_out(study.refused),
    ]
    for group in groups:
        own = {row.name: [run for run in runs if run.run_id in row.run_ids] for row in group.rows}
        where = f"{group.benchmark} (data {group.data}, model {group.model})"
        notes += [*_seed_notes(group, runs), *init_notes(where, own)]
    return notes + study.warnings


def _seed_notes(group: Group, runs: Sequence[Run]) -> list[str]:
    """A warning where the rows of a group do not rest on the same seeds."""
    seed_of = {run.run_id: run.seed for run in runs}
    seeds = {row.name: tuple(seed_of[run_id] for run_id in row.run_ids) for row in group.rows}
    if len(set(seeds.values())) < 2:
        return []
    listed = "; ".join(f"{name} {', '.join(map(str, own))}" for name, own in seeds.items())
    return [f"{group.benchmark} (data {group.data}, model {group.model}): unequal seeds: {listed}."]


def _whole_numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers from 1, as in 1,2,4,8,16")
    return tuple(sorted({int(part) for part in parts}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.tables", description=__doc__)
    add_inputs(parser)
    parser.add_argument(
        "--spec", help="a YAML file that says what to show, or a preset of conf/analysis by name"
    )
    parser.add_argument(
        "--over", metavar="KEY", help="with --spec: one row for each value of this config key"
    )
    parser.add_argument(
        "--out", type=Path, help="where the .md, .tex, .csv and .html go; default: first folder"
    )
    parser.add_argument(
        "--k", type=_whole_numbers, help="the k of pass@k; default: all in the runs"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
