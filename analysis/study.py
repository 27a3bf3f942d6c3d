"""The runs of one study: what each measured, in one way for every table, figure and page.

`Study.measure` is the only way from run directories to [seed, item]: it takes the outcomes of each
run, holds them to the metrics recorded beside them, and to the same items in every seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .metrics import Metric, full_name, is_accuracy, named, split_metric
from .outcomes import COLUMNS as READ
from .outcomes import Outcomes, outcomes
from .runs import ITEMS, RESULT, AnalysisError, Refused, Run, naming

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("failed", "unfinished", "duplicate", "stale", "protocol", "version", "seed")
COLUMNS = (
    "path",
    "run_id",
    "protocol_id",
    "method",
    "row",
    "data",
    "model",
    "seed",
    "init_id",
    "version",
    "benchmark",
    "stage",
    "metric",
    "value",
)
_NUMBERS = ("truncated", "latent_steps", "answer_tokens")
_OPTIONAL = ("grader_failed",)  # runs of before it was recorded are without

Held = Mapping[tuple[str, str], Outcomes]


@dataclass(frozen=True)
class Measured:
    """One metric of one row: a figure per seed and, where runs have items, [seed, item].

    Where start models are crossed with seeds, a start model is what varies independently: it takes
    a seed's place, with the mean over its seeds. `uids` are the items that the columns of `items`
    stand for.
    """

    seeds: tuple[float, ...]
    items: NDArray[np.float64] | None
    uids: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """Completed runs that may stand in one table, the runs left out, and what must be said below.

    `names` is the row of each run by its path; `warnings` are sentences about what was allowed.
    """

    runs: list[Run]
    names: dict[Path, str]
    refused: list[Refused]
    warnings: list[str]
    _held: dict[Path, Held] = field(default_factory=dict, repr=False, compare=False)

    @property
    def footnotes(self) -> list[str]:
        """Sentences for below a table: what it rests on, what is missing, what was allowed."""
        seeds = _seed_notes(self.runs, self.names)
        own = remarks_of(self.runs, self.names)
        return [made_from(self.runs), *own, *left_out(self.refused), *self.warnings, *seeds]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per run and metric, with the columns `COLUMNS`; shares are fractions.

        `benchmark` is empty for metrics of the training; `row` is the table row of the run.
        """
        import pandas as pd

        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        for run in self.runs:
            common = _identity(run, self.names[run.path])
            metrics = [(*split_metric(name), _value(run, name)) for name in sorted(run.metrics)]
            for name, value in zip(COLUMNS[: len(common)], common, strict=True):
                columns[name] += [value] * len(metrics)
            for name, values in zip(COLUMNS[len(common) :], zip(*metrics, strict=True)):  # noqa: B905
                columns[name] += values
        frame = pd.DataFrame(columns)
        frame.attrs["footnotes"] = list(self.footnotes)
        return frame

    def held(self, run: Run) -> Held:
        """The outcomes of a run by benchmark and stage, read once; none where it has no items.

        AnalysisError where they contradict the metrics that stand beside them.
        """
        if run.path not in self._held:
            self._held[run.path] = _read_outcomes(run) if run.has_items else {}
        return self._held[run.path]

    def outcomes(self, run: Run, benchmark: str, stage: str = "final") -> Outcomes:
        """The outcomes of one benchmark at one stage; AnalysisError where the run has none."""
        if not run.has_items:
            raise AnalysisError(f"{run.path}: metrics alone, no items; give the run directory")
        held = self.held(run)
        if (benchmark, stage) not in held:
            raise AnalysisError(
                f"{run.path / ITEMS}: no rows of benchmark {benchmark!r} at stage {stage!r}; "
                "evaluate again or leave the run out"
            )
        return held[benchmark, stage]

    def measure(self, runs: Sequence[Run], benchmark: str, metric: Metric) -> Measured | None:
        """A metric of one row on a benchmark; None where one of its runs does not have it.

        AnalysisError where two runs answered different items.
        """
        each = [self._of_run(run, benchmark, metric) for run in runs]
        found = [one for one in each if one is not None]
        if not found or len(found) < len(each):
            return None
        same_items(benchmark, [(run, one) for run, one in zip(runs, found, strict=True)])
        units = replicates(runs)
        seeds = tuple(
            float(np.mean([found[place].seeds[0] for place in places])) for places in units
        )
        rows = [one.items for one in found if one.items is not None]
        if len(rows) < len(found):
            return Measured(seeds, None, ())
        items = np.stack([np.mean([rows[i][0] for i in places], axis=0) for places in units])
        return Measured(seeds, items, found[0].uids)

    def _of_run(self, run: Run, benchmark: str, metric: Metric) -> Measured | None:
        if not run.has_items:
            value = _logged(run, benchmark, metric)
            return None if value is None else Measured((value,), None, ())
        stages = ("final", "init") if metric.stage == "gain" else (metric.stage,)
        held = self.held(run)
        taken, uids = [], set()
        for stage in stages:
            values = metric.per_item(held[benchmark, stage]) if (benchmark, stage) in held else None
            if values is None:
                return None
            taken.append(np.asarray(values, dtype=float))
            uids.add(held[benchmark, stage].items)
        if len(uids) > 1:
            raise AnalysisError(
                f"{run.path / ITEMS}: init and final answer other items of {benchmark!r}; "
                "evaluate again"
            )
        values = taken[0] - taken[1] if len(taken) == 2 else taken[0]
        return Measured((metric.of(values),), values[None], uids.pop())


@dataclass(frozen=True)
class Group:
    """Runs that share axes: one data set, model and benchmark, by row name, seeds in order."""

    data: str
    model: str
    benchmark: str
    protocol: str
    rows: Mapping[str, tuple[Run, ...]]

    @property
    def title(self) -> str:
        """What the rows have in common, for a heading."""
        return f"{self.benchmark} (data {self.data}, model {self.model})"


def groups_of(
    study: Study, names: Mapping[Path, str] | None = None, protocols: bool = True
) -> list[Group]:
    """The runs by what may share axes, in order of data, model, benchmark (and protocol)."""
    names = study.names if names is None else names
    found: dict[tuple[str, str, str, str], dict[str, list[Run]]] = {}
    for run in study.runs:
        for benchmark in benchmarks_of(run):
            key = (run.data, run.model, benchmark, run.protocol_id if protocols else "")
            found.setdefault(key, {}).setdefault(names[run.path], []).append(run)
    return [
        Group(
            *key,
            {
                name: tuple(sorted(rows[name], key=lambda run: run.replicate))
                for name in sorted(rows)
            },
        )
        for key, rows in sorted(found.items())
    ]


def same_items(benchmark: str, cells: Sequence[tuple[Run, Measured]]) -> None:
    """AnalysisError where two of them stand for other items; figures alone stand for none."""
    own = [(run, cell.uids) for run, cell in cells if cell.items is not None]
    for run, uids in own:
        if uids != own[0][1]:
            raise AnalysisError(
                f"{run.path / ITEMS}: other items of {benchmark!r} than in "
                f"{own[0][0].path / ITEMS}; evaluate again"
            )


def benchmarks_of(run: Run) -> list[str]:
    """Every benchmark of which the run holds an accuracy; AnalysisError where it holds none."""
    found = set()
    for name in run.metrics:
        benchmark, stage, metric = split_metric(name)
        if benchmark and stage == "final" and is_accuracy(metric):
            found.add(benchmark)
    if not found:
        raise AnalysisError(f"{run.path / RESULT}: no metric '<benchmark>/pass@1'; evaluate again")
    return sorted(found)


def code_of(run: Run) -> str:
    """The code that made a run, as one text: equal texts are the same code, if it was committed."""
    provenance = run.result.get("provenance") or {}
    commit = (provenance.get("git_commit") or "unknown")[:12]
    changed = ", with uncommitted changes" if provenance.get("git_dirty") else ""
    return f"version {provenance.get('version') or 'unknown'}, commit {commit}{changed}"


def made_from(runs: Sequence[Run]) -> str:
    """The sentence that says what a table rests on: how many runs, of which code."""
    codes = "; ".join(sorted({code_of(run) for run in runs}))
    return f"Made from {len(runs)} run{'s' * (len(runs) != 1)}: {codes}."


def left_out(refused: Sequence[Refused]) -> list[str]:
    """The sentence that counts the runs left out, if any was."""
    kinds = [one.kind for one in refused]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in KINDS if kind in kinds)
    return [f"Left out: {counts}."] if counts else []


def replicates(runs: Sequence[Run]) -> list[list[int]]:
    """The places of a row's runs by what varies independently: each run by itself or, where
    several start models have several seeds each, the runs of each start model together."""
    by_init: dict[int, list[int]] = {}
    for place, run in enumerate(runs):
        by_init.setdefault(run.init_seed, []).append(place)
    crossed = 1 < len(by_init) < len(runs)
    return list(by_init.values()) if crossed else [[place] for place in range(len(runs))]


def init_notes(where: str, rows: Mapping[str, Sequence[Run]]) -> list[str]:
    """What start models have to do with the rows of a group: whose seeds share one, whose spread
    includes several, and which rows are compared across different ones."""
    inits = {
        name: {str((run.result.get("init") or {}).get("id")) for run in runs}
        for name, runs in rows.items()
    }
    notes = []
    for name, own in inits.items():
        if len(own) > 1:
            listed = ", ".join(sorted(own))
            notes.append(f"{where}: {name} starts from {len(own)} inits: {listed}.")
    shared = [name for name, own in inits.items() if len(own) == 1 and len(rows[name]) > 1]
    if shared:
        notes.append(
            f"{where}: all seeds of {', '.join(shared)} start from one model each: their intervals "
            "say nothing of other start models (init.seed)."
        )
    if len({frozenset(own) for own in inits.values()}) > 1:
        notes.append(
            f"{where}: rows start from different models, so that differences between them include "
            "those of their start models."
        )
    return notes


def _identity(run: Run, row: str) -> tuple[Any, ...]:
    init = (run.result.get("init") or {}).get("id")
    return (
        str(run.path),
        run.run_id,
        run.protocol_id,
        run.method,
        row,
        run.data,
        run.model,
        run.seed,
        "" if init is None else str(init),
        code_of(run),
    )


def _value(run: Run, name: str) -> float:
    """A metric for the frame, where what was not measured may stand as NaN."""
    value = run.metrics[name]
    return math.nan if value is None or value != value else run.metric(name)


def check_items(run: Run) -> None:
    """AnalysisError where a run's items do not bear out the metrics that stand beside them."""
    _read_outcomes(run)


def _read_outcomes(run: Run) -> Held:
    items = run.items((*READ, *_NUMBERS), optional=_OPTIONAL)
    held = {}
    with naming(run.path / ITEMS):
        pairs = items[["benchmark", "stage"]].drop_duplicates().to_numpy().tolist()
        for benchmark, stage in sorted(pairs):
            held[benchmark, stage] = outcomes(items, benchmark, stage)
        for name in run.metrics:
            _check(run, name, held)
    return held


def _check(run: Run, name: str, held: Held) -> None:
    """The items must bear out a metric that stands beside them."""
    benchmark, stage, short = split_metric(name)
    metric = named(short) if benchmark else None
    if metric is None:
        return
    if (benchmark, stage) not in held:
        raise ValueError(f"no rows of benchmark {benchmark!r} at stage {stage!r}, and {RESULT} has")
    values = metric.per_item(held[benchmark, stage])
    if values is None:  # a count that older files are without, or a sample that is missing
        if metric.unit == "share":
            raise ValueError(f"cannot give {name}, which stands in {RESULT}; evaluate again")
        return
    found, recorded = metric.of(values), run.metric(name)
    if abs(found - recorded) > 1e-6:
        raise ValueError(f"{name} is {found:.6f} here and {recorded:.6f} in {RESULT}")


def _logged(run: Run, benchmark: str, metric: Metric) -> float | None:
    """The figure of a run without items, from its metrics."""
    final, init = (full_name(benchmark, stage, metric.record) for stage in ("final", "init"))
    if metric.stage == "gain":
        both = final in run.metrics and init in run.metrics
        return run.metric(final) - run.metric(init) if both else None
    name = init if metric.stage == "init" else final
    return run.metric(name) if name in run.metrics else None


def remarks_of(runs: Sequence[Run], names: Mapping[Path, str]) -> list[str]:
    """What runs say against themselves, each sentence once with the runs that say it."""
    said: dict[str, list[str]] = {}
    for run in runs:
        for remark in run.remarks:
            said.setdefault(remark, []).append(f"{names[run.path]} seed {run.seed}")
    return [f"{', '.join(who)}: {remark}." for remark, who in said.items()]


def _seed_notes(runs: Sequence[Run], names: Mapping[Path, str]) -> list[str]:
    """A warning for each data set and model whose rows do not rest on the same seeds."""
    seeds: dict[tuple[str, str], dict[str, set[int]]] = {}
    for run in runs:
        arm = seeds.setdefault((run.data, run.model), {}).setdefault(names[run.path], set())
        arm.add(run.seed)
    notes = []
    for (data, model), rows in sorted(seeds.items()):
        if len({tuple(sorted(own)) for own in rows.values()}) > 1:
            listed = "; ".join(
                f"{name} {', '.join(map(str, sorted(own)))}" for name, own in sorted(rows.items())
            )
            notes.append(f"data {data}, model {model}: unequal seeds: {listed}.")
    return notes
