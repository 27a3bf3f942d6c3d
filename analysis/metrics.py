"""What can be measured on a benchmark. A metric is one declaration: by its place in `RECORDED`
alone it stands in `result.json` and in the frame, and is a column of any table that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from .outcomes import STAGES, Outcomes, outcomes

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Metric:
    """One figure of a run on a benchmark.

    `per_item` takes it [item] from the outcomes of one stage, None where they do not hold it. A
    `share` of items is printed in percent, a `mean` over items as a number, a `total` is their sum.
    Rows are compared, and the best is found, by the `tested` ones. `stage` is the model that is
    measured: the run's `final` one, its `init`, or the `gain`: final - init, item by item. A record
    has it as `record`, of either model.
    """

    name: str
    heading: str
    per_item: Callable[[Outcomes], NDArray[Any] | None]
    unit: Literal["share", "mean", "total"] = "share"
    tested: bool = False
    stage: Literal["init", "final", "gain"] = "final"
    record: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "record", self.record or self.name)

    def at(self, stage: Literal["init", "final", "gain"]) -> Metric:
        """The same metric of another model."""
        return replace(self, stage=stage)

    def of(self, values: NDArray[Any]) -> float:
        """The figure of one run from its values per item."""
        return float(values.sum() if self.unit == "total" else values.mean())


def sampled_pass(k: int) -> Metric:
    """pass@k of the sampled answers, where there are as many: `pass@1` itself is the greedy one."""
    name = "sampled_pass@1" if k == 1 else f"pass@{k}"
    heading = "pass@1 (sampled)" if k == 1 else name
    return Metric(name, heading, lambda o: o.pass_at(k) if o.samples >= k else None, tested=True)


def majority(n: int) -> Metric:
    """The grade of the most frequent of n answers."""
    name = f"maj@{n}"
    return Metric(name, name, lambda o: o.majority if o.samples == n else None, tested=True)


def number(name: str, heading: str, unit: Literal["share", "mean", "total"] = "mean") -> Metric:
    """One of `Outcomes.numbers`."""
    return Metric(name, heading, lambda o: o.numbers.get(name), unit)


def _length(o: Outcomes) -> NDArray[Any] | None:
    steps, tokens = o.numbers.get("latent_steps"), o.numbers.get("answer_tokens")
    return None if steps is None or tokens is None else steps + tokens


GREEDY = Metric("pass@1", "pass@1 (greedy)", lambda o: o.greedy, tested=True)
COVERAGE = Metric("coverage", "coverage", lambda o: o.pass_at(o.samples) if o.samples else None)
# In `result.json`, in this order, with pass@k and maj@n before them.
RECORDED = (
    COVERAGE,
    number("truncated", "truncated", "share"),
    number("answer_tokens", "answer tokens"),
    number("latent_steps", "latent steps"),
    number("sampled_truncated", "truncated (sampled)", "share"),
    number("sampled_answer_tokens", "answer tokens (sampled)"),
    number("grader_failures", "grader failures", "total"),
)
INIT = replace(GREEDY, name="init", heading="init pass@1", tested=False, stage="init")
GAIN = replace(GREEDY, name="gain", heading="gain over init", stage="gain")
LENGTH = Metric("length", "length", _length, "mean")
# What follows from the items and is not in the record.
DERIVED = (INIT, GAIN, LENGTH)

_FAMILY = re.compile(r"(pass|maj)@(\d+)")
# Part of a metric's name that is no benchmark's.
_OF_TRAINING = {"train", "latent", "perf", "trainer"}


def named(name: str) -> Metric | None:
    """The metric of a name, `pass@8` and `maj@16` included; None where there is no such metric."""
    for metric in (GREEDY, *RECORDED, *DERIVED):
        if metric.name == name:
            return metric
    if name == "sampled_pass@1":
        return sampled_pass(1)
    found = _FAMILY.fullmatch(name)
    if found is None or int(found[2]) < 1:
        return None
    return (sampled_pass if found[1] == "pass" else majority)(int(found[2]))


def split_metric(name: str) -> tuple[str, str, str]:
    """Benchmark, stage and metric of a metric's full name; no benchmark for those of training."""
    stage = "init" if name.startswith("init/") else "final"
    rest = name.removeprefix("init/")
    benchmark, slash, metric = rest.rpartition("/")
    if not slash or benchmark.partition("/")[0] in _OF_TRAINING:
        return "", stage, rest
    return benchmark, stage, metric


def full_name(benchmark: str, stage: str, metric: str) -> str:
    """What a metric of a benchmark is called in a record."""
    return f"{'init/' if stage == 'init' else ''}{benchmark}/{metric}"


def accuracies(names: Iterable[str]) -> list[Metric]:
    """The accuracies among full names, in reading order: greedy, sampled by k, majority by n."""
    found = {metric for _, _, metric in map(split_metric, names) if is_accuracy(metric)}
    order = ("pass@1", "sampled_pass@1")

    def place(name: str) -> tuple[int, bool, int]:
        head, _, count = name.partition("@")
        return (order.index(name) if name in order else len(order), head == "maj", int(count))

    return [metric for name in sorted(found, key=place) if (metric := named(name)) is not None]


def is_accuracy(name: str) -> bool:
    """Whether a metric's name is pass@k or maj@n, of greedy or sampled answers."""
    return name == "sampled_pass@1" or _FAMILY.fullmatch(name) is not None


def recorded(samples: int, ks: Sequence[int]) -> Iterator[Metric]:
    """The metrics of a stage with so many sampled answers per item, in the order of its record."""
    yield GREEDY
    if samples:
        yield from (sampled_pass(k) for k in sorted(set(ks)))
        yield majority(samples)
    yield from RECORDED


def summary_metrics(items: pd.DataFrame, ks: Sequence[int]) -> dict[str, float]:
    """The `metrics` of `result.json`, keyed `<benchmark>/<metric>`, with `init/` before stage init.

    `pass@1` is greedy accuracy, `sampled_pass@1` and `pass@k` for the other `ks` come from the n
    sampled answers, `maj@n` is their majority, and `coverage` is pass@n: the share of items that
    any sample solves. Shares are fractions. Raises ValueError for k > n and for the faults that
    `outcomes` names.
    """
    metrics: dict[str, float] = {}
    present = set(map(tuple, items[["benchmark", "stage"]].drop_duplicates().to_numpy().tolist()))
    every = [(name, stage) for name in sorted({name for name, _ in present}) for stage in STAGES]
    for benchmark, stage in (pair for pair in every if pair in present):
        own = outcomes(items, benchmark, stage)
        if own.samples:
            own.pass_at(max(ks, default=1))  # refuses a k that there are too few samples for
        for metric in recorded(own.samples, ks):
            values = metric.per_item(own)
            if values is not None:
                metrics[full_name(benchmark, stage, metric.name)] = metric.of(values)
    return metrics
