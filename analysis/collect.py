"""Run directories as one study: found, checked, and laid out as one tidy frame.

`python -m analysis.collect RUNS... --out frame.parquet` writes the frame: one row per run and
metric. What cannot stand in one table is refused by path; `--allow` takes it with a footnote.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .runs import RESULT, AnalysisError, Refused, Run, find_runs, read_run
from .study import KINDS, Study, benchmarks_of, code_of
from .sweep import stale_jobs
from .variants import row_names

_WANDB = "wandb://"


@dataclass(frozen=True)
class Problem:
    """Why runs cannot stand in a table: one of KINDS, or `unreadable`, which nothing allows."""

    kind: str
    lines: tuple[str, ...]
    note: str = ""


def collect(
    paths: Sequence[Path | str],
    allow: Iterable[str] = (),
    keep: Callable[[Run], bool] | None = None,
) -> Study:
    """The study of all completed runs under some folders, or in `wandb://entity/project`.

    `keep` says which of them belong to it; the others are not checked.

    Problems go to stderr, with their paths. AnalysisError where one is not of a kind in `allow`,
    or where no run is left. Failed, unfinished and duplicate runs that are allowed are left out;
    stale runs, protocols, versions and unequal seeds that are allowed stay in, with a footnote.
    """
    runs, refused = find_runs([path for path in paths if not str(path).startswith(_WANDB)])
    for path in paths:
        if str(path).startswith(_WANDB):
            from .wandb_runs import project_runs

            logged, others = project_runs(str(path).removeprefix(_WANDB))
            runs, refused = [*runs, *logged], [*refused, *others]
    allowed, found = set(allow), len(runs)
    runs = [run for run in runs if keep is None or keep(run)]
    if found and not runs:
        raise AnalysisError(f"filter: leaves none of {found} runs; change it")
    runs, stale = _without_stale(runs, "stale" in allowed)
    names = row_names(runs)
    runs, repeated = _one_run_per_seed(runs, names)
    refused = [*refused, *repeated]
    problems = [Problem(r.kind, (f"{r.kind}: {r.path}: {r.reason}",)) for r in refused]
    problems += [*stale, *_mixed_protocols(runs), *_mixed_versions(runs)]
    problems += _missing_seeds(runs, names, _methods_of(refused))
    for problem in problems:
        print("\n".join(problem.lines), file=sys.stderr)
    _refuse({problem.kind for problem in problems} - allowed)
    if not runs:
        where = ", ".join(map(str, paths))
        raise AnalysisError(
            f"{where}: no completed run with a {RESULT}; give folders that hold runs"
        )
    return Study(runs, names, refused, [problem.note for problem in problems if problem.note])


def place(text: str) -> Path | str:
    """A command line's place of runs: a folder, or a W&B project left as text."""
    return text if text.startswith(_WANDB) else Path(text)


def kinds(text: str) -> tuple[str, ...]:
    """`--allow` as a tuple; argparse shows the error."""
    given = tuple(part.strip() for part in text.split(","))
    unknown = [kind for kind in given if kind not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: choose from {', '.join(KINDS)}")
    return given


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """The arguments that every command over a study takes: where the runs are, what is allowed."""
    parser.add_argument(
        "folders",
        nargs="+",
        type=place,
        metavar="RUNS",
        help="folders that hold runs, at any depth, or wandb://entity/project",
    )
    add_allow(parser)


def add_allow(parser: argparse.ArgumentParser) -> None:
    """The argument that takes problems with a footnote."""
    parser.add_argument(
        "--allow",
        type=kinds,
        default=(),
        help=f"go on in spite of problems: {', '.join(KINDS)} (comma-separated); runs that are "
        "failed, unfinished or duplicate are left out, the others stay in, with a footnote",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the frame of a study; 0, or 2 after one line that says what to change."""
    options = _parser().parse_args(arguments)
    try:
        study = collect(options.folders, options.allow)
        for run in study.runs:
            study.held(run)  # refuses metrics that the items beside them do not bear out
        frame = study.frame
        options.out.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(options.out, index=False)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {len(frame)} rows from {len(study.runs)} runs")
    for note in study.footnotes:
        print(f"- {note}")
    return 0


def _without_stale(runs: Sequence[Run], keep: bool) -> tuple[list[Run], list[Problem]]:
    """Runs that the last sweep of their multirun folder would not have made."""
    reasons = stale_jobs([run.path for run in runs])
    problems = [
        Problem(
            "stale",
            (f"stale: {path}: {reason}",),
            f"{path.name} of {path.parent.name} is left from an earlier sweep in that folder.",
        )
        for path, reason in reasons.items()
    ]
    return [run for run in runs if keep or run.path not in reasons], problems


def _one_run_per_seed(
    runs: Sequence[Run], names: Mapping[Path, str]
) -> tuple[list[Run], list[Refused]]:
    """Keep the first of the runs that differ in nothing that a row shows, and name the others."""
    kept: dict[tuple[Any, ...], Run] = {}
    repeated = []
    for run in runs:
        key = (run.data, run.model, names[run.path], run.replicate, run.protocol_id)
        first = kept.setdefault(key, run)
        if first is not run:
            reason = f"same method, data, model and {run.replicate_name} as {first.path}"
            repeated.append(Refused(run.path, "duplicate", reason))
    return list(kept.values()), repeated


def _mixed_protocols(runs: Sequence[Run]) -> Iterator[Problem]:
    """One problem for each benchmark that was measured under more than one protocol."""
    used: dict[str, dict[str, list[Path]]] = {}
    for run in runs:
        for benchmark in benchmarks_of(run):
            used.setdefault(benchmark, {}).setdefault(run.protocol_id, []).append(run.path)
    for benchmark, own in sorted(used.items()):
        if len(own) > 1:
            yield Problem(
                "protocol",
                _listed("protocol", f"benchmark {benchmark!r} has {len(own)} protocols", own),
                f"{benchmark}: {len(own)} protocols; do not compare across their groups.",
            )


def _mixed_versions(runs: Sequence[Run]) -> Iterator[Problem]:
    used: dict[str, list[Path]] = {}
    for run in runs:
        used.setdefault(code_of(run), []).append(run.path)
    if len(used) > 1:
        lines = _listed("version", f"runs of {len(used)} code versions", used)
        yield Problem("version", lines, f"Runs of {len(used)} code versions stand side by side.")


def _methods_of(refused: Sequence[Refused]) -> set[tuple[str, str, str]]:
    """Data, model and method of runs that are named as refused already, as far as they say."""
    found = set()
    for one in refused:
        if one.kind != "unreadable" and (one.path / RESULT).is_file():
            run = read_run(one.path)
            found.add((run.data, run.model, run.method))
    return found


def _missing_seeds(
    runs: Sequence[Run], names: Mapping[Path, str], known: Collection[tuple[str, str, str]]
) -> Iterator[Problem]:
    """One problem for each data set and model whose rows do not rest on the same seeds.

    A method in `known` lacks a run that was named before: its seeds need no second permission.
    """
    arms: dict[tuple[str, str], dict[str, dict[tuple[int, int], Run]]] = {}
    excused: set[tuple[str, str, str]] = set()
    for run in runs:
        arm = arms.setdefault((run.data, run.model), {}).setdefault(names[run.path], {})
        arm[run.replicate] = run
        if (run.data, run.model, run.method) in known:
            excused.add((run.data, run.model, names[run.path]))
    for (data, model), rows in sorted(arms.items()):
        every = set().union(*rows.values())
        short = {
            name: own
            for name, own in sorted(rows.items())
            if set(own) != every and (data, model, name) not in excused
        }
        if short:
            head = f"seed: data {data}, model {model}: rows with fewer seeds than others:"
            names_of = {r: run.replicate_name for own in rows.values() for r, run in own.items()}
            lines = [_missing_line(name, own, names_of) for name, own in short.items()]
            yield Problem("seed", (head, *lines))


def _missing_line(
    name: str, own: Mapping[tuple[int, int], Run], every: Mapping[tuple[int, int], str]
) -> str:
    missing = ", ".join(every[one] for one in sorted(set(every) - set(own)))
    have = ", ".join(f"{own[one].replicate_name} in {own[one].path}" for one in sorted(own))
    return f"  {name}: no {missing}; it has {have}"


def _listed(kind: str, what: str, paths: Mapping[str, Sequence[Path]]) -> tuple[str, ...]:
    lines = [f"  {name}: {', '.join(map(str, own))}" for name, own in sorted(paths.items())]
    return (f"{kind}: {what}:", *lines)


def _refuse(found: set[str]) -> None:
    """Raise unless there is nothing to refuse; the problems themselves have been printed."""
    if "unreadable" in found:
        raise AnalysisError("unreadable runs: no table without them; run them again or remove them")
    if found:
        asked = ",".join(kind for kind in KINDS if kind in found)
        raise AnalysisError(f"refused: {asked}; repair or leave out these runs, or --allow {asked}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.collect", description=__doc__)
    add_inputs(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="the frame, as a Parquet file: frame.parquet"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
