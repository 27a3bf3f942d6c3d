"""How many seeds and items a difference needs: `python -m analysis.plan --effect 2.0 --items 1319`.

The variances come from runs (`--runs`), from options, or from the share of items on which two runs
disagree; docs/analysis.md has the formula.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .collect import add_allow, collect, place
from .metrics import GREEDY
from .runs import AnalysisError, Run
from .stats import (
    Components,
    components,
    items_needed,
    minimal_detectable_effect,
    seeds_needed,
)
from .study import Study, benchmarks_of
from .table import percent

SEEDS = (1, 3, 5, 10)
_FEW_SEEDS = 5  # below this the normal law promises too much
DISCORDANCE = 0.15  # of GSM8K-like accuracy between 30 and 50 %: two runs of one method and more


@dataclass(frozen=True)
class Variances:
    """Deviations of a paired difference as fractions, and where they come from, for print."""

    parts: Components
    source: str


def estimated(study: Study, benchmark: str) -> Variances:
    """Median deviations over all pairs of rows of a study that may be compared on a benchmark.

    AnalysisError where no two rows share data, model and protocol, or none has two seeds.
    """
    arms: dict[tuple[str, ...], dict[str, list[Run]]] = {}
    for run in study.runs:
        if f"{benchmark}/pass@1" in run.metrics:
            key = (run.data, run.model, run.protocol_id)
            arms.setdefault(key, {}).setdefault(study.names[run.path], []).append(run)
    found = []
    for rows in arms.values():
        for a, b in combinations(sorted(rows), 2):
            found.append(
                components(_greedy(study, rows[a], benchmark), _greedy(study, rows[b], benchmark))
            )
    if not found:
        raise AnalysisError(
            f"--runs: no two rows to compare on {benchmark!r}; give runs of two methods, or "
            "--discordance"
        )
    with_seeds = [one for one in found if not math.isnan(one.sd_seeds)]
    if not with_seeds:
        raise AnalysisError(
            f"--runs: one seed each on {benchmark!r}: seeds and items cannot be told apart; give "
            "runs of two seeds or more, or --sd-seeds"
        )
    parts = [(one.sd_items, one.sd_seeds, one.sd_residual) for one in with_seeds]
    items, seeds, residual = (float(np.median(column)) for column in zip(*parts, strict=True))
    many = f"{len(with_seeds)} pair{'s' * (len(with_seeds) != 1)} of rows"
    return Variances(Components(items, seeds, residual), f"{many} on {benchmark}")


def plan(
    effect: float, items: int, variances: Variances, power: float = 0.8, alpha: float = 0.05
) -> list[str]:
    """The lines that answer: seeds for these items, items for some seeds, what is detectable.

    `effect` is a fraction.
    """
    parts, rest = variances.parts, {"power": power, "alpha": alpha}
    seeds = seeds_needed(effect, items, parts, **rest)
    points = percent(effect)
    lines = [
        f"Variances: {variances.source}: sd over items {percent(parts.sd_items)}, over seeds "
        f"{percent(parts.sd_seeds)}, of one answer {percent(parts.sd_residual)} points.",
        f"To find a difference of {points} points with {_whole(power)} power at "
        f"{_whole(alpha)} (two-sided, paired over items, seeds independent):",
        _seeds_line(seeds, items),
        "",
        f"| seeds per arm | items needed | detectable with {items} items |",
        "| ---: | ---: | ---: |",
    ]
    counts: set[int] = set(SEEDS) if seeds is None else {*SEEDS, seeds}
    for count in sorted(counts):
        needed = items_needed(effect, count, parts, **rest)
        least = minimal_detectable_effect(items, count, parts, **rest)
        lines.append(f"| {count} | {needed or 'no number'} | {percent(least)} |")
    lines += ["", f"Below {_FEW_SEEDS} seeds the normal law is optimistic: plan for one more."]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan; 0, or 2 after one line that says what to change."""
    options = _parser().parse_args(arguments)
    try:
        _check(options)
        for benchmark, items, variances in _cases(options):
            if benchmark:
                print(f"## {benchmark}\n")
            lines = plan(options.effect / 100, items, variances, options.power, options.alpha)
            print("\n".join(lines) + "\n")
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _cases(options: argparse.Namespace) -> list[tuple[str, int, Variances]]:
    """Benchmark (if any), number of items and variances of each plan to print."""
    if not options.runs:
        return [("", options.items, _given(options))]
    study = collect(options.runs, options.allow)
    found = sorted({name for run in study.runs for name in benchmarks_of(run)})
    chosen = [options.benchmark] if options.benchmark else found
    cases = []
    for name in chosen:
        holders = [run for run in study.runs if f"{name}/pass@1" in run.metrics]
        if not holders:
            raise AnalysisError(f"--benchmark {name}: the runs have {', '.join(found)}")
        items = options.items or len(study.outcomes(holders[0], name).items)
        cases.append((name, items, estimated(study, name)))
    return cases


def _given(options: argparse.Namespace) -> Variances:
    seeds = options.sd_seeds / 100
    if options.sd_items is not None:
        parts = Components(options.sd_items / 100, seeds, options.sd_residual / 100)
        return Variances(parts, "as given")
    source = "as given" if options.discordance != DISCORDANCE else "assumed, not measured"
    parts = Components(math.sqrt(options.discordance), seeds, 0.0)
    text = f"{source}, with {percent(options.discordance)} % of items on which two runs disagree"
    return Variances(parts, text)


def _check(options: argparse.Namespace) -> None:
    for name, value, top in (
        ("effect", options.effect, 100.0),
        ("power", options.power, 1.0),
        ("alpha", options.alpha, 1.0),
        ("discordance", options.discordance, 1.0),
    ):
        if not 0 < value < top:
            raise AnalysisError(f"--{name} {value}: must lie between 0 and {top:g}")
    if options.items is not None and options.items < 1:
        raise AnalysisError(f"--items {options.items}: give a whole number from 1")
    if options.items is None and not options.runs:
        raise AnalysisError("--items: missing; give the size of the benchmark, or --runs")


def _greedy(study: Study, runs: Sequence[Run], benchmark: str) -> dict[int, np.ndarray]:
    cell = study.measure(runs, benchmark, GREEDY)
    if cell is None or cell.items is None:
        raise AnalysisError(f"{runs[0].path}: no greedy answers of {benchmark!r}; leave it out")
    return dict(zip((run.seed for run in runs), cell.items, strict=True))


def _seeds_line(seeds: int | None, items: int) -> str:
    if seeds is None:
        return f"no number of seeds is enough with {items} items: more items are needed."
    return f"{seeds} seed{'s' * (seeds != 1)} per arm with {items} items."


def _whole(share: float) -> str:
    return f"{100 * share:g} %"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.plan", description=__doc__)
    parser.add_argument("--effect", type=float, required=True, help="the difference, in points")
    parser.add_argument("--items", type=int, help="size of the benchmark; default: as in --runs")
    parser.add_argument(
        "--runs", nargs="+", type=place, help="folders of runs to estimate the variances from"
    )
    parser.add_argument("--benchmark", help="with --runs: this one alone; default: all")
    add_allow(parser)
    parser.add_argument(
        "--sd-items", type=float, help="deviation of the paired difference over items, in points"
    )
    parser.add_argument(
        "--sd-seeds", type=float, default=1.0, help="and over seeds, in points; default: 1"
    )
    parser.add_argument("--sd-residual", type=float, default=0.0, help="and of one answer")
    parser.add_argument(
        "--discordance",
        type=float,
        default=DISCORDANCE,
        help="instead of --sd-items: share of items on which two runs disagree",
    )
    parser.add_argument("--power", type=float, default=0.8, help="default: 0.8")
    parser.add_argument("--alpha", type=float, default=0.05, help="default: 0.05")
    return parser


if __name__ == "__main__":
    sys.exit(main())
