"""Two runs side by side: what differs in their configs, and which items changed sides.

`python -m analysis.compare RUN_A RUN_B` prints the config difference and, for each benchmark, the
paired test of B against A with the items that B fixed and broke.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .outcomes import outcomes
from .runs import ITEMS, AnalysisError, Run, naming, read_run
from .stats import mcnemar, paired_difference
from .study import benchmarks_of, check_items
from .table import percent
from .variants import config_values

ABSENT = "absent"
_READ = ("benchmark", "item", "stage", "decode", "sample", "answer_text", "prediction", "gold")
_IDENTITY = ("method", "data", "model", "protocol_id")


@dataclass(frozen=True)
class Change:
    """One item that changed sides: its uid, its gold answer, and what either run answered."""

    item: str
    gold: str
    answer_a: str
    prediction_a: str | None
    answer_b: str
    prediction_b: str | None


@dataclass(frozen=True)
class Comparison:
    """B against A on the same items, greedy answers; shares are fractions, the interval is 95 %.

    `fixed` are the items that only B has right, `broken` those that only A has right.
    """

    benchmark: str
    items: int
    accuracy_a: float
    accuracy_b: float
    difference: float
    low: float
    high: float
    p: float
    fixed: tuple[Change, ...]
    broken: tuple[Change, ...]


def config_difference(a: Run, b: Run) -> list[tuple[str, str, str]]:
    """Every config key whose value differs, with both values as text; places on disk do not count.

    A key that only one of them has stands with `absent`.
    """
    first, second = config_values(a), config_values(b)
    return [
        (key, first.get(key, ABSENT), second.get(key, ABSENT))
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    ]


def compare(a: Run, b: Run, benchmark: str) -> Comparison:
    """B against A on one benchmark: paired difference B - A, McNemar's p, items that changed sides.

    AnalysisError where the runs are of different protocols, or have not the same items with greedy
    answers.
    """
    _check_protocols(a, b)
    check_items(a)
    check_items(b)
    first, second = _answers(a, benchmark), _answers(b, benchmark)
    if first["item"].tolist() != second["item"].tolist():
        raise AnalysisError(
            f"{b.path / ITEMS}: other items of {benchmark!r} than {a.path / ITEMS}; evaluate again"
        )
    right_a, right_b = first["correct"].to_numpy(bool), second["correct"].to_numpy(bool)
    gain, test = paired_difference(right_b, right_a), mcnemar(right_a, right_b)
    return Comparison(
        benchmark,
        gain.n,
        float(right_a.mean()),
        float(right_b.mean()),
        gain.mean,
        gain.low,
        gain.high,
        test.p,
        _changes(first, second, right_b & ~right_a),
        _changes(first, second, right_a & ~right_b),
    )


def common_benchmarks(a: Run, b: Run) -> list[str]:
    """The benchmarks that both runs were measured on; AnalysisError where there is none."""
    both = sorted(set(benchmarks_of(a)) & set(benchmarks_of(b)))
    if not both:
        raise AnalysisError(f"{b.path}: no benchmark in common with {a.path}; evaluate again")
    return both


def markdown(a: Run, b: Run, comparisons: Sequence[Comparison], shown: int | None = None) -> str:
    """The comparison as Markdown; `shown` limits the items listed on either side."""
    lines = [f"# {_name(b)} against {_name(a)}", ""]
    for letter, run in (("A", a), ("B", b)):
        parts = ", ".join(f"{key} {run.result[key]}" for key in _IDENTITY)
        lines.append(f"- {letter}: {run.path} (run {run.run_id}, {parts}, seed {run.seed})")
    lines += ["", "## Config", "", *_config_lines(config_difference(a, b))]
    for one in comparisons:
        lines += ["", f"## {one.benchmark}", "", *_result_lines(one)]
        for title, changes in (("Fixed by B", one.fixed), ("Broken by B", one.broken)):
            lines += ["", f"### {title}: {len(changes)} of {one.items} items", ""]
            lines += _change_lines(changes, shown)
    return "\n".join(lines).rstrip("\n") + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison of two runs; 0, or 2 after one line that says what to change."""
    options = _parser().parse_args(arguments)
    try:
        a, b = read_run(options.run_a), read_run(options.run_b)
        for run in (a, b):
            if run.status != "completed":
                raise AnalysisError(f"{run.path}: status is {run.status}; give completed runs")
        names = common_benchmarks(a, b) if options.benchmark is None else [options.benchmark]
        found = [compare(a, b, name) for name in names]
        print(markdown(a, b, found, options.show), end="")
        if options.markdown:
            options.markdown.parent.mkdir(parents=True, exist_ok=True)
            options.markdown.write_text(markdown(a, b, found), encoding="utf-8", newline="\n")
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _check_protocols(a: Run, b: Run) -> None:
    if a.protocol_id != b.protocol_id:
        raise AnalysisError(
            f"{b.path}: protocol {b.protocol_id}, and {a.path} has {a.protocol_id}; evaluate both "
            "under one protocol"
        )


def _answers(run: Run, benchmark: str) -> Any:
    """The final greedy answers of one benchmark as a frame, one row per item in order of uids."""
    frame = run.items((*_READ, "correct"), decode="greedy")
    rows = frame.loc[(frame["benchmark"] == benchmark) & (frame["stage"] == "final")]
    with naming(run.path / ITEMS):
        if rows.empty:
            have = ", ".join(sorted(frame["benchmark"].unique())) or "none"
            raise ValueError(f"no final greedy answers of {benchmark!r}; it has {have}")
        outcomes(rows, benchmark, "final")  # refuses items that were answered twice
    return rows.sort_values(by=["item"])


def _changes(first: Any, second: Any, chosen: Any) -> tuple[Change, ...]:
    columns = ["item", "gold", "answer_text", "prediction"]
    pairs = zip(
        first.loc[chosen, columns].itertuples(index=False),
        second.loc[chosen, columns].itertuples(index=False),
        strict=True,
    )
    return tuple(
        Change(
            str(one.item),
            str(one.gold),
            str(one.answer_text),
            _vote(one.prediction),
            str(other.answer_text),
            _vote(other.prediction),
        )
        for one, other in pairs
    )


def _vote(prediction: Any) -> str | None:
    # A missing prediction comes back from the file as NaN.
    return prediction if isinstance(prediction, str) else None


def _name(run: Run) -> str:
    return f"{run.method} (seed {run.seed})"


def _config_lines(differences: Sequence[tuple[str, str, str]]) -> list[str]:
    if not differences:
        return ["No difference."]
    rows = [f"| {key} | {_cell(one)} | {_cell(other)} |" for key, one, other in differences]
    return ["| key | A | B |", "| --- | --- | --- |", *rows]


def _result_lines(one: Comparison) -> list[str]:
    bounds = f"[{percent(one.low, True)}, {percent(one.high, True)}]"
    p = "< 0.0001" if one.p < 0.0001 else f"= {one.p:.4f}"
    return [
        f"pass@1 (greedy): A {percent(one.accuracy_a)}, B {percent(one.accuracy_b)}; "
        f"B - A {percent(one.difference, True)} points, 95 % interval {bounds}, "
        f"McNemar p {p}, n = {one.items} items, one run each.",
    ]


def _change_lines(changes: Sequence[Change], shown: int | None) -> list[str]:
    if not changes:
        return ["None."]
    listed = changes if shown is None else changes[:shown]
    rows = [
        f"| {one.item} | {_cell(one.gold)} | {_cell(one.answer_a)} | {_cell(one.answer_b)} |"
        for one in listed
    ]
    rest = len(changes) - len(listed)
    more = ["", f"And {rest} more: --show {len(changes)}, or --markdown FILE."] if rest else []
    return ["| item | gold | A | B |", "| --- | --- | --- | --- |", *rows, *more]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.compare", description=__doc__)
    parser.add_argument("run_a", type=Path, help="the run directory to compare against")
    parser.add_argument("run_b", type=Path, help="the run directory that is compared")
    parser.add_argument("--benchmark", help="this one alone; default: all that both have")
    parser.add_argument("--show", type=int, default=10, help="items to list on either side")
    parser.add_argument("--markdown", type=Path, help="write it here too, with every item")
    return parser


if __name__ == "__main__":
    sys.exit(main())
