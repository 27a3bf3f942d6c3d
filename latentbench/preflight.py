"""Before anything is trained: gather what a run starts from, and refuse what cannot work."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from latentbench import schema
from latentbench.data._overlap import normalise
from latentbench.errors import InputError, shorten
from latentbench.evaluation.benchmark import Benchmark
from latentbench.evaluation.interventions import steps_under
from latentbench.init_stage import identify, latents_at_test, layout_of
from latentbench.layout import Layout
from latentbench.models import Outline, outline
from latentbench.policy import check_fits
from latentbench.records import Item, Splits
from latentbench.runtime.loggers import check_loggers
from latentbench.runtime.provenance import digest
from latentbench.schema import BenchmarkConfig, Config, DeviceConfig
from latentbench.tokenizer import tokenizer_digest

# Where the files of a benchmark lie that is read from the Hugging Face hub.
HUB = "hub"
Devices = TypeVar("Devices", bound=DeviceConfig)


@dataclass(frozen=True)
class Home:
    """The data set that a model is trained on, as far as its benchmarks ask: name and splits (None
    where they are not at hand), where files lie, and how its answers are graded."""

    name: str | None
    splits: Splits | None
    root: str | None
    reward: Any
    grader: str


@dataclass(frozen=True)
class Start:
    """What a run starts from, known before anything is built: data, token layout, identity."""

    data: Splits
    outlined: Outline
    layout: Layout
    home: Home
    inputs: str

    def inputs_with(self, benchmarks: Sequence[Benchmark]) -> str:
        """The identity of all that the run reads: with benchmarks of other data sets, too."""
        others = [[b.name, items_digest(b)] for b in benchmarks if b.name != self.home.name]
        return digest([self.inputs, *others]) if others else self.inputs


def gather(config: Config, choices: Mapping[str, str]) -> Start:
    """Load the data and look at the model, without building or writing anything."""
    data = limited(config.data.load(), config)
    if not data.train:
        raise InputError(
            f"data={config.data.name}: is for evaluation alone and has no training problems; train "
            f"on another data set with eval=[{config.data.name}]"
        )
    outlined = outline(config.model, config.init.path, config.init.revision)
    init = identify(config, choices, data, outlined.tokenizer)
    inputs = digest([data.provenance["digest"], tokenizer_digest(outlined.tokenizer), init])
    home = Home(config.data.name, data, _root(config), config.reward, choices["reward"])
    return Start(data, outlined, layout_of(config, outlined), home, inputs)


def _root(config: Config) -> str | None:
    return getattr(config.data, "root", None)


def benchmarks_of(config: Config, start: Start) -> list[Benchmark]:
    """The benchmarks of a training run."""
    own = config.eval.get(config.data.name)
    if own is not None and own.root is not None:
        raise InputError(
            f"eval.{config.data.name}.root={own.root}: the run's own data set lies below "
            "data.root; set data.root=<directory>"
        )
    most, split = config.limit.eval_items, config.protocol.split
    return [
        load_benchmark(name, chosen, start.home, split, most, start.layout)
        for name, chosen in config.eval.items()
    ]


def limited(data: Splits, config: Config) -> Splits:
    """The data set cut down by `limit.train_items`; test items are cut per benchmark."""
    count = config.limit.train_items
    return data if count is None else replace(data, train=list(data.train)[:count])


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
        _check_split(f"eval={name}", items, reward, None)
    if own is None:
        _check_unseen(name, items, home)
    questions = tuple(item.question for item in items)
    settings = dataclasses.asdict(reward) | schema.packages_of([("reward", grader)])
    prompts, source = tuple(layout.prompts(items)), splits.provenance
    return Benchmark(name, prompts, questions, reward, (grader, settings), source)


def _foreign_splits(
    name: str, chosen: BenchmarkConfig, home_root: str | None, split: str
) -> Splits:
    """Another data set with the one split that is asked for."""
    kind: Any = schema.plugin("data", name) if name in schema.plugin_names("data") else None
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
        data = schema.built(kind, dict(chosen.options) | root, f"eval.{name}.options")
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
    grader = getattr(schema.plugin("data", name), "grader", None)
    if grader is None:
        return home.grader, home.reward
    return grader, marked_grader(grader, f"eval={name}: its grader", home)


def marked_grader(grader: str, where: str, home: Home) -> Any:
    """A reward by name, with the marker of this model's answers where it has one.

    Raises InputError, which begins with `where`.
    """
    kind: Any = schema.plugin("reward", grader) if grader in schema.plugin_names("reward") else None
    if kind is None:
        legal = ", ".join(schema.plugin_names("reward"))
        raise InputError(f"{where}={grader}: no such reward; choose one of {legal}")
    marked = "marker" in {field.name for field in dataclasses.fields(kind)}
    if marked and hasattr(home.reward, "marker"):
        return kind(marker=home.reward.marker)
    return kind()


def check_surroundings(config: Config) -> None:
    """Refuse what this machine cannot do: loggers, a device, a place for inits."""
    check_loggers(config)
    check_device(config.trainer)
    root = Path(config.init.root).expanduser()
    found = next(p for p in (root, *root.absolute().parents) if p.exists())
    if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
        raise InputError(f"init.root={root}: {found} is no writable directory; choose another")


def check_device(trainer: DeviceConfig) -> None:
    """Refuse a device that is not here, or that lacks what answers are sampled with."""
    accelerator = trainer.accelerator
    if accelerator == "mps":
        raise InputError(
            "trainer.accelerator=mps: has no float64, in which answers are sampled; use trainer=cpu"
        )
    if accelerator in ("gpu", "cuda") and device_of(accelerator).type == "cpu":
        raise InputError(
            f"trainer.accelerator={accelerator}: no such device here; use trainer=cpu or "
            "trainer.accelerator=auto"
        )
    there = torch.cuda.device_count()
    if device_of(accelerator).type == "cuda" and trainer.devices > there:
        raise InputError(
            f"trainer.devices={trainer.devices}: there are {there} here; use at most that"
        )


def _check_unseen(name: str, items: Sequence[Item], home: Home) -> None:
    """Refuse a benchmark of another data set that holds training questions of this one."""
    trained = {normalise(item.question) for item in home.splits.train} if home.splits else set()
    common = [item for item in items if normalise(item.question) in trained]
    if common:
        raise InputError(
            f"eval={name}: {len(common)} of its {len(items)} items are training questions of "
            f"data={home.name}, e.g. {_short(common[0].question)}; leave it out of eval"
        )


def check_golds(config: Config, data: Splits) -> None:
    """Refuse gold answers that no text can match, in any split, before anything is trained."""
    parts = {"training": data.train, "validation": data.validation, "test": data.test}
    for split, items in parts.items():
        _check_split(f"data={config.data.name}: {split}", items, config.reward, config.data)


def _check_split(what: str, items: Sequence[Item], reward: Any, source: Any) -> None:
    for item in items:
        try:
            reward.check_gold(item.answer)
        except InputError as error:
            # Only data sets that are read from files know rows.
            place = source.place_of(item) if hasattr(source, "place_of") else None
            row = f" ({place})" if place else ""
            raise InputError(f"{what} question {_short(item.question)}{row}: {error}") from None


def check_lengths(
    config: Config,
    data: Splits,
    benchmarks: list[Benchmark],
    layout: Layout,
    positions: int,
) -> None:
    """Refuse items that would run past the model's positions, before anything is trained."""
    latents, budget = latents_at_test(config), config.answer.budget
    check_benchmark_lengths(
        benchmarks, layout, steps_under(config.protocol, latents), budget, positions
    )
    what = f"data={config.data.name}: training question"
    written = config.init.path is None
    answered = 0 if config.algorithm == "sft" else budget
    _check_items(what, data.train, layout, written, latents, answered, positions)
    if config.algorithm != "sft":
        what = f"data={config.data.name}: validation question"
        items = list(data.validation)[: config.rl.validation_items]
        _check_items(what, items, layout, False, latents, budget, positions)


def check_benchmark_lengths(
    benchmarks: Sequence[Benchmark], layout: Layout, latents: int, budget: int, positions: int
) -> None:
    """Refuse questions that would run past the model's positions with their latents and answer."""
    for benchmark in benchmarks:
        for prompt in benchmark.prompts:
            if len(prompt.ids) + latents + 1 + budget > positions:
                question = _short(layout.decode(prompt.ids).strip())
                what = f"eval={benchmark.name}: question {question}"
                check_fits(len(prompt.ids), latents, budget, positions, what)


def _check_items(
    what: str,
    items: Sequence[Item],
    layout: Layout,
    written: bool,
    latents: int,
    budget: int,
    positions: int,
) -> None:
    """`check_fits` for questions that are answered or, with `written`, have their steps written.

    Most fit by their number of characters alone; only the others are tokenised.
    """
    doubtful = []
    for item in items:
        most = layout.most(item)
        if most is None:
            doubtful.append(item)
            continue
        answer = max(most[1] if written else 0, budget)
        if most[0] + latents + 1 + answer > positions:
            doubtful.append(item)
    texts = layout.text_lengths(doubtful) if written else [0] * len(doubtful)
    for item, prompt, text in zip(doubtful, layout.prompts(doubtful), texts, strict=True):
        label = f"{what} {_short(item.question)}"
        check_fits(len(prompt.ids), latents, max(text, budget), positions, label)


def _short(question: str) -> str:
    return shorten(question, 40)


def resolved(trainer: Devices) -> Devices:
    """With the device that `auto` and `gpu` mean here, so that Lightning takes the same."""
    return replace(trainer, accelerator=device_of(trainer.accelerator).type)


def device_of(accelerator: str) -> torch.device:
    """CUDA where it is asked for and there, else the CPU; never MPS, which has no float64."""
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("cpu")
