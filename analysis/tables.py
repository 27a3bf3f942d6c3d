"""The tables of a study, from run directories: `python -m analysis.tables <folder of runs>...`

One row for each method, its mean and sample deviation over seeds, and its gain over its own init
with a paired bootstrap interval over items. Runs that may not share a table are named and refused.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.layout import Figure, Group, Row, Table, comma_separated, latex, markdown
from analysis.runs import ITEMS, RESULT, AnalysisError, Run, find_runs, naming
from analysis.stats import mean_std, paired_difference
from analysis.summary import metric_of, outcomes
from analysis.variants import row_names

KINDS = ("failed", "unfinished", "duplicate", "protocol", "version")

_INIT = re.compile(r"init/[^/]+/pass@1")
_ACCURACY = re.compile(
    r"(?P<benchmark>[^/]+)/(?:pass@(?P<k>\d+)|(?P<sampled>sampled_pass@1)|maj@(?P<n>\d+))"
)
_OUTCOME_COLUMNS = ("benchmark", "item", "stage", "decode", "sample", "correct")


@dataclass(frozen=True)
class Problem:
    """Why runs cannot stand in a table: one of KINDS, or `unreadable`, which nothing allows."""

    kind: str
    lines: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and write the tables; 0, or 2 after one line that says what to change."""
    options = _parser().parse_args(arguments)
    try:
        table = collect(options.folders, options.k, options.allow)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    out = options.out or options.folders[0]
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(table)
    for name, content in (
        ("table.md", text),
        ("table.tex", latex(table)),
        ("table.csv", comma_separated(table)),
    ):
        (out / name).write_text(content, encoding="utf-8", newline="\n")
    print(text, end="")
    return 0


def collect(
    folders: Sequence[Path], ks: Sequence[int] | None = None, allow: Iterable[str] = ()
) -> Table:
    """The table of all completed runs under some folders.

    `ks` are the k of pass@k, by default all that the runs carry. Problems go to stderr, one line
    each; AnalysisError where one of them is not of a kind in `allow`, or where no run is left.
    """
    runs, refused = find_runs(folders)
    names = row_names(runs)
    runs, repeated = _one_run_per_seed(runs, names)
    problems = [Problem(r.kind, (f"{r.kind}: {r.path}: {r.reason}",)) for r in refused]
    problems += [*repeated, *_mixed_protocols(runs), *_mixed_versions(runs)]
    for problem in problems:
        print("\n".join(problem.lines), file=sys.stderr)
    _refuse({problem.kind for problem in problems} - set(allow))
    if not runs:
        where = ", ".join(map(str, folders))
        raise AnalysisError(
            f"{where}: no completed run with a {RESULT}; give folders that hold runs"
        )
    left_out = [problem.kind for problem in problems if problem.kind not in ("protocol", "version")]
    return build(runs, names, ks, left_out)


def build(
    runs: Sequence[Run],
    names: dict[Path, str],
    ks: Sequence[int] | None = None,
    left_out: Sequence[str] = (),
) -> Table:
    """The table of runs that were found fit to share one; `left_out` are the kinds of others."""
    columns = _columns(runs, ks)
    members: dict[tuple[str, str, str, str], dict[str, list[Run]]] = {}
    for run in runs:
        for benchmark in _benchmarks(run):
            group = members.setdefault((run.data, run.model, benchmark, run.protocol_id), {})
            group.setdefault(names[run.path], []).append(run)
    groups = []
    for (data, model, benchmark, protocol), methods in sorted(members.items()):
        rows = [
            _row(name, benchmark, sorted(own, key=lambda run: run.seed), columns, ks is not None)
            for name, own in sorted(methods.items())
        ]
        groups.append(Group(data, model, benchmark, protocol, tuple(rows)))
    headings = tuple((column, _heading(column)) for column in columns)
    return Table(headings, tuple(groups), tuple(_notes(runs, groups, left_out)))


def _row(
    name: str, benchmark: str, runs: Sequence[Run], columns: Sequence[str], asked: bool
) -> Row:
    figures = {}
    for column in columns:
        if column == "gain":
            figure = _gain(benchmark, runs)
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


def _gain(benchmark: str, runs: Sequence[Run]) -> Figure | None:
    """Greedy pass@1 over that of the own init: over seeds, and over items averaged over seeds."""
    if not any(f"init/{benchmark}/pass@1" in run.metrics for run in runs):
        return None
    finals, inits, uids = [], [], set()
    for run in runs:
        for stage, rows in (("final", finals), ("init", inits)):
            items, greedy = _greedy(run, benchmark, stage)
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


def _greedy(run: Run, benchmark: str, stage: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Item uids and greedy outcomes, which must agree with the metric that stands beside them."""
    metric = f"init/{benchmark}/pass@1" if stage == "init" else f"{benchmark}/pass@1"
    with naming(run.path / ITEMS):
        items = run.items(_OUTCOME_COLUMNS, decode="greedy")
        outcome = outcomes(items, benchmark, stage)
        assert outcome.greedy is not None  # only greedy rows were read
        share, recorded = float(outcome.greedy.mean()), run.metric(metric)
        if abs(share - recorded) > 1e-6:
            raise ValueError(f"{metric} is {share:.6f} here and {recorded:.6f} in {RESULT}")
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


def _benchmarks(run: Run) -> list[str]:
    """Every benchmark of which the run holds an accuracy; AnalysisError where it holds none."""
    matches = map(_ACCURACY.fullmatch, run.metrics)
    found = sorted({match["benchmark"] for match in matches if match})
    if not found:
        raise AnalysisError(f"{run.path / RESULT}: no metric '<benchmark>/pass@1'; evaluate again")
    return found


def _one_run_per_seed(
    runs: Sequence[Run], names: dict[Path, str]
) -> tuple[list[Run], list[Problem]]:
    """Keep the first of the runs that differ in nothing that a row shows, and name the others."""
    kept: dict[tuple[str, str, str, int, str], Run] = {}
    repeated = []
    for run in runs:
        key = (run.data, run.model, names[run.path], run.seed, run.protocol_id)
        first = kept.setdefault(key, run)
        if first is not run:
            reason = f"same method, data, model and seed {run.seed} as {first.path}"
            repeated.append(Problem("duplicate", (f"duplicate: {run.path}: {reason}",)))
    return list(kept.values()), repeated


def _mixed_protocols(runs: Sequence[Run]) -> list[Problem]:
    """One problem for each benchmark that was measured under more than one protocol."""
    used: dict[str, dict[str, list[Path]]] = {}
    for run in runs:
        for benchmark in _benchmarks(run):
            used.setdefault(benchmark, {}).setdefault(run.protocol_id, []).append(run.path)
    return [
        Problem(
            "protocol",
            _listed("protocol", f"benchmark {benchmark!r} has {len(own)} protocols", own),
        )
        for benchmark, own in sorted(used.items())
        if len(own) > 1
    ]


def _mixed_versions(runs: Sequence[Run]) -> list[Problem]:
    used: dict[str, list[Path]] = {}
    for run in runs:
        used.setdefault(_code(run), []).append(run.path)
    if len(used) < 2:
        return []
    return [Problem("version", _listed("version", f"runs of {len(used)} code versions", used))]


def _listed(kind: str, what: str, paths: dict[str, list[Path]]) -> tuple[str, ...]:
    lines = [f"  {name}: {', '.join(map(str, own))}" for name, own in sorted(paths.items())]
    return (f"{kind}: {what}:", *lines)


def _refuse(kinds: set[str]) -> None:
    """Raise unless there is nothing to refuse; the problems themselves have been printed."""
    if "unreadable" in kinds:
        raise AnalysisError("unreadable runs: no table without them; run them again or remove them")
    if kinds:
        asked = ",".join(kind for kind in KINDS if kind in kinds)
        raise AnalysisError(f"refused: {asked}; repair or leave out these runs, or --allow {asked}")


def _code(run: Run) -> str:
    """The code that made a run, as one text: equal texts are the same code, if it was committed."""
    provenance = run.result.get("provenance") or {}
    commit = (provenance.get("git_commit") or "unknown")[:12]
    changed = ", with uncommitted changes" if provenance.get("git_dirty") else ""
    return f"version {provenance.get('version') or 'unknown'}, commit {commit}{changed}"


def _notes(runs: Sequence[Run], groups: Sequence[Group], left_out: Sequence[str]) -> list[str]:
    codes = "; ".join(sorted({_code(run) for run in runs}))
    notes = [
        f"Made from {len(runs)} run{'s' * (len(runs) != 1)}: {codes}.",
        "Percent of items; ± is the sample standard deviation over seeds, absent for one seed. "
        "Gains are points over the method's own init, with the 95 % paired bootstrap interval over "
        "items (per-item differences averaged over seeds).",
    ]
    if left_out:
        counts = ", ".join(f"{left_out.count(kind)} {kind}" for kind in KINDS if kind in left_out)
        notes.append(f"Left out: {counts}.")
    benchmarks = [group.benchmark for group in groups]
    protocols: dict[str, set[str]] = {name: set() for name in benchmarks}
    for group in groups:
        protocols[group.benchmark].add(group.protocol)
        notes += [*_seed_notes(group, runs), *_init_notes(group, runs)]
    for benchmark, own in protocols.items():
        if len(own) > 1:
            notes.append(f"{benchmark}: {len(own)} protocols; do not compare across their groups.")
    return notes


def _seed_notes(group: Group, runs: Sequence[Run]) -> list[str]:
    """A warning where the rows of a group do not rest on the same seeds."""
    seed_of = {run.run_id: run.seed for run in runs}
    seeds = {row.name: tuple(seed_of[run_id] for run_id in row.run_ids) for row in group.rows}
    if len(set(seeds.values())) < 2:
        return []
    listed = "; ".join(f"{name} {', '.join(map(str, own))}" for name, own in seeds.items())
    return [f"{group.benchmark} (data {group.data}, model {group.model}): unequal seeds: {listed}."]


def _init_notes(group: Group, runs: Sequence[Run]) -> list[str]:
    """A warning where the seeds of a row started from different inits: their spread includes it."""
    init_of = {run.run_id: (run.result.get("init") or {}).get("id") for run in runs}
    notes = []
    for row in group.rows:
        inits = {str(init_of[run_id]) for run_id in row.run_ids}
        if len(inits) > 1:
            where = f"{group.benchmark} (data {group.data}, model {group.model})"
            notes.append(
                f"{where}: {row.name} starts from {len(inits)} inits: {', '.join(sorted(inits))}."
            )
    return notes


def _whole_numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers from 1, as in 1,2,4,8,16")
    return tuple(sorted({int(part) for part in parts}))


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(part.strip() for part in text.split(","))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: choose from {', '.join(KINDS)}")
    return kinds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.tables", description=__doc__)
    parser.add_argument(
        "folders", nargs="+", type=Path, help="folders that hold runs, at any depth"
    )
    parser.add_argument(
        "--out", type=Path, help="where table.md/.tex/.csv go; default: first folder"
    )
    parser.add_argument(
        "--k", type=_whole_numbers, help="the k of pass@k; default: all in the runs"
    )
    parser.add_argument(
        "--allow",
        type=_kinds,
        default=(),
        help=f"make the table in spite of problems: {', '.join(KINDS)} (comma-separated); runs "
        "that are failed, unfinished or duplicate are left out with a note, each protocol gets "
        "groups of its own",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
