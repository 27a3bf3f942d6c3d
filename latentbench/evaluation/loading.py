"""Benchmarks as prompts: a model's own test items, or those of another data set."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from latentbench.config import plugins
from latentbench.config.sections import BenchmarkConfig
from latentbench.data import DataSet
from latentbench.data._overlap import normalise
from latentbench.errors import InputError, shorten
from latentbench.evaluation.benchmark import Benchmark
from latentbench.model.layout import Layout
from latentbench.records import Item, Splits
from latentbench.reward import Reward
from latentbench.runtime.provenance import digest

# Where the files of a benchmark lie that is read from the Hugging Face hub.
HUB = "hub"


@dataclass(frozen=True)
class Home:
    """The data set that a model is trained on, as far as its benchmarks ask: name and splits (None
    where they are not at hand), where files lie, and how its answers are graded."""

    name: str | None
    splits: Splits | None
    root: str | None
    reward: Any
    grader: str


def items_digest(benchmark: Benchmark) -> str:
    """A hash of a benchmark's questions and gold answers, in their order."""
    return digest([[prompt.uid, prompt.gold] for prompt in benchmark.prompts])


def load_benchmark(
    name: str,
    chosen: BenchmarkConfig,
    home: Home,
    split: str,
    most: int | None,
    layout: Layout,
) -> Benchmark:
    """At most `most` items of a benchmark as prompts: of the model's own data set, or of another.

    The own data set is graded by the configured reward, another one by its own grader with the
    marker that this model's answers have. Raises InputError for a gold answer that the grader
    cannot read, naming the item.
    """
    own = home.splits if name == home.name else None
    if own is not None and chosen.options:
        raise InputError(
            f"eval.{name}.options={dict(chosen.options)}: that data set is the one the model is "
            "trained on, and has the knobs of its training (data.<knob>); leave it out"
        )
    splits = own or _foreign_splits(name, chosen, home.root, split)
    items = list(getattr(splits, split))[: chosen.limit][:most]
    if not items:
        raise InputError(f"eval={name}: has no {split} items; use protocol.split=test")
    grader, reward = home.grader, home.reward
    if chosen.grader is not None:
        grader, reward = chosen.grader, marked_grader(chosen.grader, f"eval.{name}.grader", home)
    elif own is None:
        grader, reward = _foreign_grader(name, home)
    if own is None or chosen.grader is not None:  # else it has been checked by itself
        check_split(f"eval={name}", items, reward, None)
    if own is None:
        check_unseen(name, items, home)
    questions = tuple(item.question for item in items)
    settings = dataclasses.asdict(reward) | plugins.packages_of([("reward", grader)])
    prompts, source = tuple(layout.prompts(items)), splits.provenance
    return Benchmark(name, prompts, questions, reward, (grader, settings), source)


def _foreign_splits(
    name: str, chosen: BenchmarkConfig, home_root: str | None, split: str
) -> Splits:
    """Another data set with the one split that is asked for."""
    kind: Any = plugins.plugin("data", name) if name in plugins.plugin_names("data") else None
    if kind is None:
        raise InputError(f"eval={name}: no data set of that name in latentbench/data")
    knobs = {field.name for field in dataclasses.fields(kind)} - {"name", "root"}
    unknown = sorted(set(chosen.options) - knobs)
    if unknown:
        raise InputError(
            f"eval.{name}.options={dict(chosen.options)}: {name} has no {unknown[0]}; it has "
            f"{', '.join(sorted(knobs))}"
        )
    root = root_of(name, kind, chosen, home_root)
    with speaking_of_a_benchmark(name, kind):
        data = plugins.built(kind, dict(chosen.options) | root, f"eval.{name}.options")
        try:
            return data.load([split])
        except InputError as error:
            if chosen.root is not None or home_root is None or not _on_the_hub(kind):
                raise
            raise InputError(f"{error}; or take it from the hub: data.root={HUB}") from error


def root_of(
    name: str, kind: Any, chosen: BenchmarkConfig, otherwise: str | None
) -> dict[str, str | None]:
    """Where a benchmark's files lie, as values of its data set: `eval.<name>.root`, by which `hub`
    is no directory, or `otherwise`; empty for a data set that reads none. Raises InputError."""
    if "root" in {field.name for field in dataclasses.fields(kind)}:
        return {"root": None if chosen.root == HUB else chosen.root or otherwise}
    if chosen.root is not None:
        raise InputError(
            f"eval.{name}.root={chosen.root}: this data set reads no files; leave it out"
        )
    return {}


def _on_the_hub(kind: Any) -> bool:
    return any(field.name.endswith("hub") and field.default for field in dataclasses.fields(kind))


@contextmanager
def speaking_of_a_benchmark(name: str, kind: Any) -> Iterator[None]:
    """Let a data set's InputErrors name the keys that it has as a benchmark.

    Its own messages say `data.<key>`, which is right for the data set of a training run.
    """
    knobs = "|".join(field.name for field in dataclasses.fields(kind))

    def key(found: re.Match[str]) -> str:
        return f"eval.{name}.{'' if found[1] == 'root' else 'options.'}{found[1]}"

    try:
        yield
    except InputError as error:
        said = re.sub(rf"\bdata={name} (?=data\.)", "", str(error))
        said = re.sub(rf"(?<![\w./])data\.({knobs})\b", key, said)
        said = said.replace(f"eval.{name}.root=null", f"eval.{name}.root={HUB}")
        raise InputError(said) from error


def _foreign_grader(name: str, home: Home) -> tuple[str, Any]:
    """The grader that a data set names; the configured reward for a data set that names none."""
    kind: Any = plugins.plugin("data", name)
    if kind.grader is None:
        return home.grader, home.reward
    return kind.grader, marked_grader(kind.grader, f"eval={name}: its grader", home)


def marked_grader(grader: str, where: str, home: Home) -> Any:
    """A reward by name, with the marker of this model's answers where it has one.

    Raises InputError, which begins with `where`.
    """
    kind: Any = (
        plugins.plugin("reward", grader) if grader in plugins.plugin_names("reward") else None
    )
    if kind is None:
        legal = ", ".join(plugins.plugin_names("reward"))
        raise InputError(f"{where}={grader}: no such reward; choose one of {legal}")
    marked = "marker" in {field.name for field in dataclasses.fields(kind)}
    if marked and home.reward.marker is not None:
        return kind(marker=home.reward.marker)
    return kind()


def check_unseen(name: str, items: Sequence[Item], home: Home) -> None:
    """Refuse a benchmark of another data set that holds training questions of this one."""
    trained = {normalise(item.question) for item in home.splits.train} if home.splits else set()
    common = [item for item in items if normalise(item.question) in trained]
    if common:
        raise InputError(
            f"eval={name}: {len(common)} of its {len(items)} items are training questions of "
            f"data={home.name}, e.g. {short(common[0].question)}; leave it out of eval"
        )


def check_split(what: str, items: Sequence[Item], reward: Reward, source: DataSet | None) -> None:
    for item in items:
        try:
            reward.check_gold(item.answer)
        except InputError as error:
            place = source.place_of(item) if source else None
            row = f" ({place})" if place else ""
            raise InputError(f"{what} question {short(item.question)}{row}: {error}") from None


def short(question: str) -> str:
    return shorten(question, 40)
