"""The tables of a study, from run directories: `python -m analysis.tables <folder of runs>...`

One row for each method, its mean and sample deviation over seeds, and its gain over its own init
with an interval over seeds and items; `--spec` shows something else. Runs that may not share a
table are named and refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .build import build, keeps
from .collect import add_inputs, collect
from .metrics import sampled_pass
from .runs import RESULT, AnalysisError
from .spec import DEFAULT, PRESETS, Column, Spec, read_spec
from .table import comma_separated, html, latex, markdown

_SPELLINGS = (("md", markdown), ("tex", latex), ("csv", comma_separated), ("html", html))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and write the tables; 0, or 2 after one line that says what to change."""
    options = _parser().parse_args(arguments)
    try:
        _check_options(options)
        spec = read_spec(options.spec or PRESETS / f"{DEFAULT}.yaml", options.over)
        if options.k:
            spec = _with_ks(spec, options.k)
        study = collect(options.folders, options.allow, lambda run: keeps(spec, run))
        table, name = build(study, spec), Path(options.spec or "table").stem
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    out = options.out or options.folders[0]
    out.mkdir(parents=True, exist_ok=True)
    for ending, spelled in _SPELLINGS:
        file = out / f"{name}.{ending}"
        file.write_text(spelled(table), encoding="utf-8", newline="\n")
    print(markdown(table), end="")
    return 0


def _with_ks(spec: Spec, ks: Sequence[int]) -> Spec:
    """The default table with these k of pass@k alone."""
    chosen = tuple(Column(sampled_pass(k).name) for k in ks)
    first, *others = (c for c in spec.columns if "pass@" not in c.metric or c.metric == "pass@1")
    return replace(spec, source="--k", columns=(first, *chosen, *others))


def _check_options(options: argparse.Namespace) -> None:
    if options.k and options.spec:
        raise AnalysisError("--k: a spec lists its own columns, as in columns: [pass@2, pass@8]")
    first = options.folders[0]
    if options.out is None and (not isinstance(first, Path) or (first / RESULT).is_file()):
        raise AnalysisError(f"{first}: runs are not written into; say with --out where tables go")


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
    parser.add_argument("--over", metavar="KEY", help="one row for each value of this config key")
    parser.add_argument(
        "--out", type=Path, help="where the .md, .tex, .csv and .html go; default: first folder"
    )
    parser.add_argument(
        "--k", type=_whole_numbers, help="the k of pass@k; default: all in the runs"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
