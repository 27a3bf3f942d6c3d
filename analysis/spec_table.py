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
from numpy.typing import NDArray

from analysis.collect import Study, benchmarks_of, init_notes
from analysis.layout import Figure, Group, Row, Table, percent
from analysis.runs import ITEMS, RESULT, AnalysisError, Run
from analysis.spec import Column, Spec
from analysis.stats import (
    detectable_difference,
    difference_p,
    hierarchical_interval,
    holm,
    mean_std,
)
from analysis.variants import config_values, row_names

ALPHA, POWER = 0.05, 0.8
_TESTED = re.compile(r"(sampled_)?pass@\d+|maj@\d+|gain")
_PATTERN = re.compile(r"(pass|maj)@\*")
_FROM_ITEMS = ("latent_steps", "length")
_SHARES = ("truncated", "sampled_truncated")
_HEADINGS = {
    "pass@1": "pass@1 (greedy)",
    "sampled_pass@1": "pass@1 (sampled)",
    "init": "init pass@1",
    "gain": "gain over init",
    "answer_tokens": "answer tokens",
    "sampled_truncated": "truncated (sampled)",
    "sampled_answer_tokens": "answer tokens (sampled)",
    "latent_steps": "latent steps",
}
_LISTED = 6  # under-powered differences that a footnote names before it counts the rest

Key = tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """What one row measured in one column: a value per seed, and [seed, item] where it is tested.

    `uids` are the items that the columns of `items` stand for.
    """

    seeds: tuple[float, ...]
    items: NDArray[np.float64] | None
    uids: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """Rows that may be compared, under one heading; cells by row and column key."""

    heading: str
    protocol: str
    rows: Mapping[str, tuple[Run, ...]]
    cells: Mapping[tuple[str, str], Cell]


def build_spec(study: Study, spec: Spec) -> Table:
    """The table that a spec declares; AnalysisError names the key or the run that is at fault."""
    runs = _chosen_runs(study, spec)
    columns = _expanded(spec, runs)
    benchmarks = _chosen_benchmarks(spec, runs)
    blocks = list(_blocks(study, spec, runs, columns, benchmarks))
    keys = _column_keys(spec, columns, benchmarks)
    tests = _tests(blocks, keys, spec.pair_seeds)
    best = _best(blocks, keys, tests) if spec.bold == "tested" else set()
    groups = tuple(_group(block, keys, spec, best, i) for i, block in enumerate(blocks))
    notes = tuple(_notes(study, spec, runs, blocks, keys, tests))
    heading = spec.over or (spec.rows[0] if len(spec.rows) == 1 else "method")
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


def _expanded(spec: Spec, runs: Sequence[Run]) -> list[Column]:
    """The columns with `pass@*` and `maj@*` spelled out; unknown metrics refused by name."""
    have = _metrics(runs)
    columns: list[Column] = []
    for column in spec.columns:
        pattern = _PATTERN.fullmatch(column.metric)
        if pattern:
            start = f"{pattern[1]}@"
            ks = sorted(int(name.removeprefix(start)) for name in have if name.startswith(start))
            columns += [Column(f"{start}{k}") for k in ks if start != "pass@" or k > 1]
        elif column.metric in have:
            columns.append(column)
        else:
            raise AnalysisError(
                f"{spec.source}: columns: unknown metric {column.metric!r}; the runs have "
                f"{', '.join(sorted(have))}"
            )
    return columns


def _metrics(runs: Sequence[Run]) -> set[str]:
    """The metrics that some benchmark of some run has, and those that follow from them."""
    have: set[str] = set(_FROM_ITEMS)
    for run in runs:
        for benchmark in benchmarks_of(run):
            start = f"{benchmark}/"
            have |= {m.removeprefix(start) for m in run.metrics if m.startswith(start)}
            if f"init/{benchmark}/pass@1" in run.metrics:
                have |= {"init", "gain"}
    return have


def _blocks(
    study: Study,
    spec: Spec,
    runs: Sequence[Run],
    columns: Sequence[Column],
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
            cells = dict(_cells(study, spec, whole, columns, chosen))
            if cells:
                heading = _block_heading(spec, arm, shared, protocol, chosen, cells)
                yield Block(heading, protocol, _ordered(spec, whole, columns, chosen, cells), cells)


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
    return sorted(rows.items(), key=lambda pair: _natural(pair[0]))


def _natural(name: str) -> tuple[int, float, str]:
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def _one_per_seed(
    spec: Spec, name: str, runs: Sequence[Run], arms: Mapping[Path, str]
) -> tuple[Run, ...]:
    """The runs of a row by seed; AnalysisError where they differ in more than that."""
    ordered = sorted(runs, key=lambda run: run.seed)
    if len({(run.data, run.model, arms[run.path]) for run in ordered}) > 1:
        what = ", ".join(sorted({arms[run.path] for run in ordered}))
        raise AnalysisError(
            f"{spec.source}: row {name!r} pools runs of different data, model or config ({what}); "
            "add what differs to rows or group, or filter"
        )
    for one, other in pairwise(ordered):
        if one.seed == other.seed:
            raise AnalysisError(
                f"{spec.source}: row {name!r} has seed {one.seed} twice: {one.path}, {other.path}; "
                "add what differs to rows or group, or filter"
            )
    return tuple(ordered)


def _cells(
    study: Study,
    spec: Spec,
    rows: Mapping[str, Sequence[Run]],
    columns: Sequence[Column],
    benchmarks: Sequence[str],
) -> Iterator[tuple[tuple[str, str], Cell]]:
    for benchmark in benchmarks:
        for column in columns:
            uids: dict[tuple[str, ...], Run] = {}
            for name, runs in rows.items():
                if not all(_has(run, benchmark, column.metric) for run in runs):
                    continue
                cell = _cell(study, runs, benchmark, column.metric)
                uids.setdefault(cell.uids, runs[0])
                if cell.items is not None and len(uids) > 1:
                    first = next(iter(uids.values()))
                    raise AnalysisError(
                        f"{runs[0].path / ITEMS}: other items of {benchmark!r} than in "
                        f"{first.path / ITEMS}; evaluate again"
                    )
                yield (name, _key(spec, benchmark, column.metric)), cell


def _has(run: Run, benchmark: str, metric: str) -> bool:
    if metric in ("init", "gain"):
        return f"init/{benchmark}/pass@1" in run.metrics
    if metric in _FROM_ITEMS:
        return benchmark in benchmarks_of(run)
    return f"{benchmark}/{metric}" in run.metrics


def _cell(study: Study, runs: Sequence[Run], benchmark: str, metric: str) -> Cell:
    if metric in _FROM_ITEMS:
        lengths = [_lengths(run, benchmark) for run in runs]
        chosen = [steps + (tokens if metric == "length" else 0.0) for steps, tokens in lengths]
        return Cell(tuple(chosen), None, ())
    if not (_TESTED.fullmatch(metric) or metric == "init"):
        return Cell(tuple(run.metric(f"{benchmark}/{metric}") for run in runs), None, ())
    measured = [_per_item(study, run, benchmark, metric) for run in runs]
    if len({uids for uids, _ in measured}) > 1:
        raise AnalysisError(
            f"{runs[-1].path / ITEMS}: other items of {benchmark!r} than in "
            f"{runs[0].path / ITEMS}; evaluate again"
        )
    values = np.array([values for _, values in measured], dtype=float)
    return Cell(tuple(values.mean(axis=1).tolist()), values, measured[0][0])


def _per_item(
    study: Study, run: Run, benchmark: str, metric: str
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Item uids and a metric per item, which must bear out the recorded mean beside it."""
    final = study.outcomes(run, benchmark)
    if metric in ("gain", "init"):
        init = study.outcomes(run, benchmark, "init")
        if init.greedy is None or final.greedy is None or init.items != final.items:
            raise AnalysisError(f"{run.path / ITEMS}: init and final of {benchmark!r} do not pair")
        start = init.greedy.astype(float)
        return final.items, start if metric == "init" else final.greedy - start
    if metric == "pass@1":
        values = final.greedy
    elif metric.startswith("maj@"):
        values = final.majority
    else:
        values = final.pass_at(int(metric.rpartition("@")[2]))
    recorded = run.metric(f"{benchmark}/{metric}")
    if values is None or abs(float(np.mean(values)) - recorded) > 1e-6:
        raise AnalysisError(
            f"{run.path / ITEMS}: does not bear out {benchmark}/{metric} = {recorded:.6f} of "
            f"{RESULT}; evaluate again"
        )
    return final.items, np.asarray(values, dtype=float)


def _lengths(run: Run, benchmark: str) -> tuple[float, float]:
    """Mean latent steps and answer tokens of the final greedy answers, else of the sampled ones."""
    columns = ("benchmark", "stage", "decode", "latent_steps", "answer_tokens")
    frame = run.items(columns)
    rows = frame.loc[(frame["benchmark"] == benchmark) & (frame["stage"] == "final")]
    greedy = rows.loc[rows["decode"] == "greedy"]
    rows = rows if greedy.empty else greedy
    if rows.empty:
        raise AnalysisError(f"{run.path / ITEMS}: no final answers of {benchmark!r}")
    steps, tokens = rows[["latent_steps", "answer_tokens"]].to_numpy(dtype=float).mean(axis=0)
    return float(steps), float(tokens)


def _key(spec: Spec, benchmark: str, metric: str) -> str:
    return metric if spec.benchmarks == "groups" else f"{benchmark}/{metric}"


def _column_keys(
    spec: Spec, columns: Sequence[Column], benchmarks: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """Column keys and their headings; with benchmarks as columns a lone metric needs no name."""
    named = [(c.metric, c.heading or _HEADINGS.get(c.metric, c.metric)) for c in columns]
    if spec.benchmarks == "groups":
        return tuple(named)
    return tuple(
        (_key(spec, benchmark, metric), benchmark if len(named) == 1 else f"{benchmark}: {heading}")
        for benchmark in benchmarks
        for metric, heading in named
    )


def _block_heading(
    spec: Spec,
    arm: str,
    shared: Sequence[str],
    protocol: str,
    benchmarks: Sequence[str],
    cells: Mapping[tuple[str, str], Cell],
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
    columns: Sequence[Column],
    benchmarks: Sequence[str],
    cells: Mapping[tuple[str, str], Cell],
) -> dict[str, tuple[Run, ...]]:
    """The rows that have any cell, by name, or by the first column with the best first."""
    have = {name for name, _ in cells}
    names = [name for name in rows if name in have]
    if spec.order == "value":
        key = _key(spec, benchmarks[0], columns[0].metric)
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


def _tests(
    blocks: Sequence[Block], keys: Sequence[tuple[str, str]], pair_seeds: bool
) -> list[Test]:
    """Every pair of rows in every column: who leads is seen in the data, so all must count."""
    tests = []
    for number, block in enumerate(blocks):
        for key, _ in keys:
            for pair in combinations(block.rows, 2):
                cells = [block.cells.get((name, key)) for name in pair]
                a, b = (None if cell is None else cell.items for cell in cells)
                if a is None or b is None or not _is_tested(key):
                    continue
                # Seeds pair by their ids; rows of other seeds are taken as independent.
                paired = pair_seeds and len({_seed_ids(block.rows[name]) for name in pair}) == 1
                p = difference_p(a, b, paired)
                reach = detectable_difference(a, b, paired, POWER, ALPHA)
                tests.append(Test(number, key, pair, float(a.mean() - b.mean()), p, reach))
    return [replace(test, p=p) for test, p in zip(tests, holm([t.p for t in tests]), strict=True)]


def _is_tested(key: str) -> bool:
    return _TESTED.fullmatch(key.rpartition("/")[2]) is not None


def _seed_ids(runs: Sequence[Run]) -> tuple[int, ...]:
    return tuple(run.seed for run in runs)


def _leader(block: Block, key: str) -> list[str]:
    """The rows of a tested column, best first."""
    have = [name for name in block.rows if (name, key) in block.cells and _is_tested(key)]
    return sorted(have, key=lambda name: (-np.mean(block.cells[name, key].seeds), name))


def _best(
    blocks: Sequence[Block], keys: Sequence[tuple[str, str]], tests: Sequence[Test]
) -> set[tuple[int, str, str]]:
    """Block, column and row of each value that is ahead of every other row by the tests."""
    best = set()
    for number, block in enumerate(blocks):
        for key, _ in keys:
            ranked = _leader(block, key)
            own = [t for t in tests if (t.block, t.column) == (number, key) and ranked[0] in t.rows]
            if own and all(test.p < ALPHA for test in own):
                best.add((number, key, ranked[0]))
    return best


def _group(
    block: Block,
    keys: Sequence[tuple[str, str]],
    spec: Spec,
    best: set[tuple[int, str, str]],
    number: int,
) -> Group:
    rows = []
    labels = dict(spec.labels)
    for name, runs in block.rows.items():
        figures = {}
        for key, _ in keys:
            cell = block.cells.get((name, key))
            if cell is not None:
                figures[key] = _figure(spec, key, cell, (number, key, name) in best)
        rows.append(Row(labels.get(name, name), tuple(run.run_id for run in runs), figures))
    return Group("", "", "", block.protocol, tuple(rows), block.heading)


def _figure(spec: Spec, key: str, cell: Cell, best: bool) -> Figure:
    metric = key.rpartition("/")[2]
    mean, std = mean_std(cell.seeds)
    interval = None
    if cell.items is not None and (spec.spread != "sd" or metric == "gain"):
        found = hierarchical_interval(cell.items)
        interval = (found.low, found.high)
    return Figure(
        mean,
        None if spec.spread == "interval" else std,
        interval,
        signed=metric == "gain",
        share=cell.items is not None or metric in _SHARES,
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
    keys: Sequence[tuple[str, str]],
    tests: Sequence[Test],
) -> list[str]:
    shown = Study(list(runs), study.names, study.refused, study.warnings)
    notes = [*spec.footnotes, *shown.footnotes[:1], _legend(spec, keys)]
    if spec.bold == "tested" and tests:
        notes.append(
            f"Bold: ahead of every other row of its column, paired over items and with seeds "
            f"{'paired' if spec.pair_seeds else 'independent'}, p < {ALPHA} after Holm's "
            f"correction over the {len(tests)} pairs of rows in this table."
        )
    notes += _weak(spec, blocks, keys, tests)
    notes += [note for block in blocks for note in init_notes(block.heading, block.rows)]
    return list(dict.fromkeys([*notes, *shown.footnotes[1:]]))


def _legend(spec: Spec, keys: Sequence[tuple[str, str]]) -> str:
    metrics = [key.rpartition("/")[2] for key, _ in keys]
    parts = ["Accuracies in percent of the n items"]
    if spec.spread != "interval":
        parts.append("± is the sample standard deviation over seeds, absent for one seed")
    if spec.spread != "sd" or "gain" in metrics:
        parts.append("[ ] is the 95 % interval over seeds and items, for one seed over items")
    if "gain" in metrics:
        parts.append("gains are points over the method's own init")
    return "; ".join(parts) + "."


def _weak(
    spec: Spec,
    blocks: Sequence[Block],
    keys: Sequence[tuple[str, str]],
    tests: Sequence[Test],
) -> list[str]:
    """The warning that names leads smaller than what so few seeds and items can detect."""
    weak = []
    labels = dict(spec.labels)
    for number, block in enumerate(blocks):
        for key, heading in keys:
            ranked = _leader(block, key)[:2]
            for test in tests:
                if (test.block, test.column) != (number, key) or set(test.rows) != set(ranked):
                    continue
                if abs(test.difference) < test.detectable:
                    first, second = (labels.get(name, name) for name in ranked)
                    where = heading if len(blocks) == 1 else f"{_short(block)}, {heading}"
                    lead = percent(abs(test.difference), signed=True)
                    weak.append(
                        f"{where}: {first} over {second} {lead} ({percent(test.detectable)})"
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


def _short(block: Block) -> str:
    return re.split(r", n = | \(", block.heading)[0]
