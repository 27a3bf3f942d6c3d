"""From a study and a spec to a table: rows, columns, blocks, tests, and the notes they need.

Every figure comes from the items or the record of the runs in its row. A column's best value is in
bold only where the paired tests against every other row, corrected over the table, bear it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from .metrics import GREEDY, Metric, accuracies, named
from .runs import AnalysisError, Run
from .spec import Spec
from .stats import (
    detectable_difference,
    difference_p,
    hierarchical_interval,
    holm,
    mean_std,
)
from .study import Measured, Study, benchmarks_of, init_notes, replicates, same_items
from .table import Entry, Row, Section, Table, percent
from .variants import config_values, natural_key, row_names

ALPHA, POWER = 0.05, 0.8
LEAST_SEEDS = 2  # a side, below which no difference is tested
_PATTERN = re.compile(r"(pass|maj)@\*")
_LISTED = 6  # under-powered differences that a footnote names before it counts the rest

Key = tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """A column of a table: a metric under its heading, of one benchmark where each has its own."""

    key: str
    heading: str
    metric: Metric
    benchmark: str = ""


@dataclass(frozen=True)
class Block:
    """Rows that may be compared, under one heading; cells by row and column key."""

    heading: str
    protocol: str
    rows: Mapping[str, tuple[Run, ...]]
    cells: Mapping[tuple[str, str], Measured]


def build(study: Study, spec: Spec) -> Table:
    """The table that a spec declares; AnalysisError names the key or the run that is at fault."""
    runs = _chosen_runs(study, spec)
    benchmarks = _chosen_benchmarks(spec, runs)
    columns = _columns(study, spec, runs, benchmarks)
    blocks = list(_blocks(study, spec, runs, columns, benchmarks))
    tests = _tests(blocks, columns, spec.pair_seeds)
    best = _best(blocks, columns, tests) if spec.bold == "tested" else set()
    groups = tuple(_group(block, columns, spec, best, i) for i, block in enumerate(blocks))
    notes = tuple(_notes(study, spec, runs, blocks, columns, tests))
    heading = spec.over or (spec.rows[0] if len(spec.rows) == 1 else "method")
    keys = tuple((column.key, column.heading) for column in columns)
    return Table(keys, groups, notes, "method" if heading == "row" else heading, spec.title)


def keeps(spec: Spec, run: Run) -> bool:
    """Whether the filter of a spec takes a run, as far as the run alone can say."""
    return all(
        _field(run, key) in wanted for key, wanted in spec.filter if key not in ("row", "benchmark")
    )


def _chosen_runs(study: Study, spec: Spec) -> list[Run]:
    for key, _ in spec.filter:
        if key not in ("row", "benchmark") and all(_field(r, key) is None for r in study.runs):
            raise AnalysisError(f"{spec.source}: filter: no run has a key {key!r}")
    rows = dict(spec.filter).get("row")
    runs = [
        run
        for run in study.runs
        if keeps(spec, run) and (rows is None or study.names[run.path] in rows)
    ]
    if not runs:
        raise AnalysisError(f"{spec.source}: filter: leaves none of {len(study.runs)} runs")
    return runs


def _chosen_benchmarks(spec: Spec, runs: Sequence[Run]) -> list[str]:
    found = sorted({benchmark for run in runs for benchmark in benchmarks_of(run)})
    wanted = dict(spec.filter).get("benchmark", tuple(found))
    for name in wanted:
        if name not in found:
            raise AnalysisError(
                f"{spec.source}: filter: benchmark {name!r}: the runs have {', '.join(found)}"
            )
    return [name for name in found if name in wanted]


def _field(run: Run, key: str) -> str | None:
    """A field of a run or a value of its config as text; a config group by its chosen option."""
    if key in ("method", "data", "model"):
        return getattr(run, key)
    if key == "seed":
        return str(run.seed)
    config = config_values(run)
    return config.get(key, config.get(f"choices.{key}"))


def _columns(
    study: Study, spec: Spec, runs: Sequence[Run], benchmarks: Sequence[str]
) -> list[Shown]:
    """The columns with `pass@*` and `maj@*` spelled out, for each benchmark where it has its own.

    A lone metric needs no name beside its benchmark's.
    """
    chosen = _metrics(study, spec, runs, benchmarks)
    if spec.benchmarks == "groups":
        return [Shown(metric.name, heading, metric) for metric, heading in chosen]
    return [
        Shown(
            f"{benchmark}/{metric.name}",
            benchmark if len(chosen) == 1 else f"{benchmark}: {heading}",
            metric,
            benchmark,
        )
        for benchmark in benchmarks
        for metric, heading in chosen
    ]


def _metrics(
    study: Study, spec: Spec, runs: Sequence[Run], benchmarks: Sequence[str]
) -> list[tuple[Metric, str]]:
    """The metrics of a spec with their headings; those that no run has are refused by name."""
    recorded = accuracies({name for run in runs for name in run.metrics})
    found: list[tuple[Metric, str]] = []
    for column in spec.columns:
        pattern = _PATTERN.fullmatch(column.metric)
        if pattern:
            own = [m for m in recorded if m.name.startswith(f"{pattern[1]}@") and m != GREEDY]
            found += [(metric, metric.heading) for metric in own]
            continue
        metric = named(column.metric)
        if metric is not None and any(
            study.measure([run], benchmark, metric) for run in runs for benchmark in benchmarks
        ):
            found.append((metric, column.heading or metric.heading))
        elif metric is None or not column.optional:
            have = ", ".join(metric.name for metric in recorded)
            raise AnalysisError(
                f"{spec.source}: columns: {column.metric!r} is a metric of none of the runs; they "
                f"have {have}; docs/analysis.md lists the others"
            )
    return found


def _blocks(
    study: Study,
    spec: Spec,
    runs: Sequence[Run],
    columns: Sequence[Shown],
    benchmarks: Sequence[str],
) -> Iterator[Block]:
    """Blocks in the order of what their rows share, each with the cells of all its rows."""
    apart = (spec.over, f"choices.{spec.over}") if spec.over else ()
    arms = row_names(runs, apart)
    if spec.over and all(_field(run, spec.over) is None for run in runs):
        raise AnalysisError(f"--over {spec.over}: no run has this config key")
    members: dict[Key, dict[str, list[Run]]] = {}
    for run in runs:
        shared = [_field(run, key) or "absent" for key in spec.group]
        arm = arms[run.path] if spec.over else ""
        key = (arm, *shared, run.protocol_id)
        members.setdefault(key, {}).setdefault(_label(study, spec, run), []).append(run)
    each = [[one] for one in benchmarks] if spec.benchmarks == "groups" else [list(benchmarks)]
    for (arm, *shared, protocol), rows in sorted(members.items()):
        whole = {name: _one_per_seed(spec, name, own, arms) for name, own in _sorted(spec, rows)}
        for chosen in each:
            cells = dict(_cells(study, whole, columns, chosen))
            if cells:
                heading = _block_heading(spec, arm, shared, protocol, chosen, cells)
                yield Block(heading, protocol, _ordered(spec, whole, columns, cells), cells)


def _label(study: Study, spec: Spec, run: Run) -> str:
    if spec.over:
        return _field(run, spec.over) or "absent"
    if spec.rows == ("row",):
        return study.names[run.path]
    first, *others = spec.rows
    head = study.names[run.path] if first == "row" else _field(run, first) or "absent"
    tail = ", ".join(f"{key}={_field(run, key) or 'absent'}" for key in others)
    return f"{head} ({tail})" if tail else head


def _sorted(spec: Spec, rows: Mapping[str, list[Run]]) -> list[tuple[str, list[Run]]]:
    """Rows by name, numbers by size."""
    return sorted(rows.items(), key=lambda pair: natural_key(pair[0]))


def _one_per_seed(
    spec: Spec, name: str, runs: Sequence[Run], arms: Mapping[Path, str]
) -> tuple[Run, ...]:
    """The runs of a row by seed; AnalysisError where they differ in more than that."""
    ordered = sorted(runs, key=lambda run: run.replicate)
    if len({(run.data, run.model, arms[run.path]) for run in ordered}) > 1:
        what = ", ".join(sorted({arms[run.path] for run in ordered}))
        raise AnalysisError(
            f"{spec.source}: row {name!r} pools runs of different data, model or config ({what}); "
            "add what differs to rows or group, or filter"
        )
    for one, other in pairwise(ordered):
        if one.replicate == other.replicate:
            raise AnalysisError(
                f"{spec.source}: row {name!r} has {one.replicate_name} twice: {one.path}, "
                f"{other.path}; add what differs to rows or group, or filter"
            )
    return tuple(ordered)


def _cells(
    study: Study,
    rows: Mapping[str, Sequence[Run]],
    columns: Sequence[Shown],
    benchmarks: Sequence[str],
) -> Iterator[tuple[tuple[str, str], Measured]]:
    for column in columns:
        for benchmark in [column.benchmark] if column.benchmark else benchmarks:
            found = {
                name: cell
                for name, runs in rows.items()
                if (cell := study.measure(runs, benchmark, column.metric)) is not None
            }
            same_items(benchmark, [(rows[name][0], cell) for name, cell in found.items()])
            yield from (((name, column.key), cell) for name, cell in found.items())


def _block_heading(
    spec: Spec,
    arm: str,
    shared: Sequence[str],
    protocol: str,
    benchmarks: Sequence[str],
    cells: Mapping[tuple[str, str], Measured],
) -> str:
    """What the rows have in common, and how many items stand behind them."""
    common = [f"{key} {value}" for key, value in zip(spec.group, shared, strict=True)]
    counts = []
    for benchmark in benchmarks:
        own = benchmark + "/" if spec.benchmarks == "columns" else ""
        sizes = {len(cell.uids) for (_, key), cell in cells.items() if key.startswith(own)} - {0}
        n = f", n = {max(sizes)}" if sizes else ""
        counts.append(f"{benchmark}{n}")
    head = f"{arm}: " if arm else ""
    return f"{head}{'; '.join(counts)} ({', '.join([*common, f'protocol {protocol}'])})"


def _ordered(
    spec: Spec,
    rows: Mapping[str, tuple[Run, ...]],
    columns: Sequence[Shown],
    cells: Mapping[tuple[str, str], Measured],
) -> dict[str, tuple[Run, ...]]:
    """The rows that have any cell, by name, or by the first column with the best first."""
    have = {name for name, _ in cells}
    names = [name for name in rows if name in have]
    if spec.order == "value":
        key = columns[0].key
        names.sort(
            key=lambda name: -np.mean(cells[name, key].seeds) if (name, key) in cells else np.inf
        )
    return {name: rows[name] for name in names}


# -- which differences hold ----------------------------------------------------------------------


@dataclass(frozen=True)
class Test:
    """Two rows of one column: their difference, its corrected p, and what would be detectable."""

    block: int
    column: str
    rows: tuple[str, str]
    difference: float
    p: float
    detectable: float


def _tests(blocks: Sequence[Block], columns: Sequence[Shown], pair_seeds: bool) -> list[Test]:
    """Every pair of rows in every column: who leads is seen in the data, so all must count."""
    tests = []
    for number, block in enumerate(blocks):
        for key in (column.key for column in columns if column.metric.tested):
            for pair in combinations(block.rows, 2):
                cells = [block.cells.get((name, key)) for name in pair]
                a, b = (None if cell is None else cell.items for cell in cells)
                if a is None or b is None or min(len(a), len(b)) < LEAST_SEEDS:
                    continue  # one run a side says nothing of other seeds
                # Seeds pair by their ids; rows of other seeds are taken as independent.
                paired = pair_seeds and len({_seed_ids(block.rows[name]) for name in pair}) == 1
                p = difference_p(a, b, paired)
                reach = detectable_difference(a, b, paired, POWER, ALPHA)
                tests.append(Test(number, key, pair, float(a.mean() - b.mean()), p, reach))
    return [replace(test, p=p) for test, p in zip(tests, holm([t.p for t in tests]), strict=True)]


def _seed_ids(runs: Sequence[Run]) -> tuple[tuple[int, int], ...]:
    return tuple(run.replicate for run in runs)


def _leader(block: Block, column: Shown) -> list[str]:
    """The rows of a tested column, best first."""
    key = column.key
    have = [name for name in block.rows if (name, key) in block.cells and column.metric.tested]
    return sorted(have, key=lambda name: (-np.mean(block.cells[name, key].seeds), name))


def _best(
    blocks: Sequence[Block], columns: Sequence[Shown], tests: Sequence[Test]
) -> set[tuple[int, str, str]]:
    """Block, column and row of each value that is ahead of every other row by the tests."""
    best = set()
    for number, block in enumerate(blocks):
        for column in columns:
            ranked, where = _leader(block, column), (number, column.key)
            own = [t for t in tests if (t.block, t.column) == where and ranked[0] in t.rows]
            if own and all(test.p < ALPHA for test in own):
                best.add((*where, ranked[0]))
    return best


def _group(
    block: Block,
    columns: Sequence[Shown],
    spec: Spec,
    best: set[tuple[int, str, str]],
    number: int,
) -> Section:
    rows = []
    labels = dict(spec.labels)
    for name, runs in block.rows.items():
        figures = {
            column.key: _figure(spec, column.metric, cell, (number, column.key, name) in best)
            for column in columns
            if (cell := block.cells.get((name, column.key))) is not None
        }
        rows.append(Row(labels.get(name, name), tuple(run.run_id for run in runs), figures))
    return Section(block.heading, block.protocol, tuple(rows))


def _figure(spec: Spec, metric: Metric, cell: Measured, best: bool) -> Entry:
    mean, std = mean_std(cell.seeds)
    gain = metric.stage == "gain"
    interval = None
    if cell.items is not None and metric.unit != "total" and (spec.spread != "sd" or gain):
        found = hierarchical_interval(cell.items)
        interval = (found.low, found.high)
    return Entry(
        mean,
        None if spec.spread == "interval" else std,
        interval,
        signed=gain,
        share=metric.unit == "share",
        best=best,
        seeds=len(cell.seeds),
        items=len(cell.uids),
    )


# -- notes ---------------------------------------------------------------------------------------


def _notes(
    study: Study,
    spec: Spec,
    runs: Sequence[Run],
    blocks: Sequence[Block],
    columns: Sequence[Shown],
    tests: Sequence[Test],
) -> list[str]:
    shown = Study(list(runs), study.names, study.refused, study.warnings)
    notes = [*spec.footnotes, *shown.footnotes[:1], _legend(spec, columns)]
    if spec.bold == "tested" and tests:
        notes.append(
            f"Bold: ahead of every other row of its column, paired over items and with seeds "
            f"{'paired' if spec.pair_seeds else 'independent'}, p < {ALPHA} after Holm's "
            f"correction over the {len(tests)} pairs of rows in this table."
        )
    if spec.bold == "tested" and any(c.metric.tested for c in columns):
        notes += _untested(blocks)
    notes += _weak(spec, blocks, columns, tests)
    notes += [note for block in blocks for note in init_notes(block.heading, block.rows)]
    return list(dict.fromkeys([*notes, *shown.footnotes[1:]]))


def _legend(spec: Spec, columns: Sequence[Shown]) -> str:
    gains = any(column.metric.stage == "gain" for column in columns)
    parts = ["Accuracies in percent of the n items"]
    if spec.spread != "interval":
        parts.append("± is the sample standard deviation over seeds, absent for one seed")
    if spec.spread != "sd" or gains:
        parts.append("[ ] is the 95 % interval over seeds and items, for one seed over items")
    if gains:
        parts.append("gains are points over the method's own init")
    return "; ".join(parts) + "."


def _weak(
    spec: Spec,
    blocks: Sequence[Block],
    columns: Sequence[Shown],
    tests: Sequence[Test],
) -> list[str]:
    """The warning that names leads smaller than what so few seeds and items can detect."""
    weak = []
    labels = dict(spec.labels)
    for number, block in enumerate(blocks):
        for column in columns:
            heading, where = column.heading, (number, column.key)
            ranked = _leader(block, column)[:2]
            for test in tests:
                if (test.block, test.column) != where or set(test.rows) != set(ranked):
                    continue
                if abs(test.difference) < test.detectable:
                    first, second = (labels.get(name, name) for name in ranked)
                    head = heading if len(blocks) == 1 else f"{_short(block)}, {heading}"
                    lead = percent(abs(test.difference), signed=True)
                    weak.append(
                        f"{head}: {first} over {second} {lead} ({percent(test.detectable)})"
                    )
    if not weak:
        return []
    rest = f"; and {len(weak) - _LISTED} more" if len(weak) > _LISTED else ""
    return [
        "Under-powered: these leads in points are smaller than the difference in brackets that so "
        f"many seeds and items detect with {POWER:.0%} power: ".replace("%", " %")
        + "; ".join(weak[:_LISTED])
        + f"{rest}. `python -m analysis.plan` says how many more it takes."
    ]


def _untested(blocks: Sequence[Block]) -> list[str]:
    """The rows that no test compares, where there is something to be compared with."""
    alone = [
        name
        for block in blocks
        for name, runs in block.rows.items()
        if len(block.rows) > 1 and len(replicates(runs)) < LEAST_SEEDS
    ]
    if not alone:
        return []
    return [
        f"Not tested, and never bold: {', '.join(dict.fromkeys(alone))}, with fewer than "
        f"{LEAST_SEEDS} seeds (or start models) each."
    ]


def _short(block: Block) -> str:
    return re.split(r", n = | \(", block.heading)[0]
