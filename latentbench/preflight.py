"""Before anything is trained: gather what a run starts from, and refuse what cannot work."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from latentbench.schema import BenchmarkConfig, Config, TrainerConfig
from latentbench.tokenizer import tokenizer_digest


@dataclass(frozen=True)
class Start:
    """What a run starts from, known before anything is built: data, token layout, identity."""

    data: Splits
    outlined: Outline
    layout: Layout
    inputs: str


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
    return Start(data, outlined, layout_of(config, outlined), inputs)


def limited(data: Splits, config: Config) -> Splits:
    """The data set cut down by `limit.train_items`; test items are cut per benchmark."""
    count = config.limit.train_items
    return data if count is None else replace(data, train=list(data.train)[:count])


@dataclass(frozen=True)
class Home:
    """The data set that a model is trained on, as far as its benchmarks ask: name and splits (None
    where they are not at hand), where files lie, and how its answers are graded."""

    name: str | None
    splits: Splits | None
    root: str | None
    reward: Any
    grader: str


def home_of(config: Config, choices: Mapping[str, str], data: Splits) -> Home:
    """The data set of a training run."""
    root = getattr(config.data, "root", None)
    return Home(config.data.name, data, root, config.reward, choices["reward"])


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
    own = name == home.name and home.splits is not None
    if own and chosen.options:
        raise InputError(
            f"eval.{name}.options={dict(chosen.options)}: the run's own data set has its knobs "
            f"below data; set data.{next(iter(chosen.options))}=..."
        )
    if own and chosen.root is not None:
        raise InputError(
            f"eval.{name}.root={chosen.root}: the run's own data set lies below data.root; set "
            "data.root=<directory>"
        )
    splits = home.splits if own else _foreign_splits(name, chosen, home.root, split)
    items = list(getattr(splits, split))[: chosen.limit][:most]
    if not items:
        raise InputError(f"eval={name}: has no {split} items; use protocol.split=test")
    grader, reward = home.grader, home.reward
    if chosen.grader is not None:
        grader, reward = chosen.grader, marked_grader(chosen.grader, f"eval.{name}.grader", home)
    elif not own:
        grader, reward = _foreign_grader(name, home)
    if not own or chosen.grader is not None:  # else it has been checked by itself
        _check_split(f"eval={name}", items, reward, None)
    if not own:
        _check_unseen(name, items, home)
    questions = tuple(item.question for item in items)
    settings = dataclasses.asdict(reward) | schema.packages_of([("reward", grader)])
    return Benchmark(name, tuple(layout.prompts(items)), questions, reward, (grader, settings))


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
    takes_root = "root" in {field.name for field in dataclasses.fields(kind)}
    if chosen.root is not None and not takes_root:
        raise InputError(f"eval.{name}.root={chosen.root}: this data set reads no files")
    options = dict(chosen.options)
    if takes_root:
        options["root"] = chosen.root or home_root
    return kind(**options).load([split])


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


def check_device(trainer: TrainerConfig) -> None:
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


def resolved(trainer: TrainerConfig) -> TrainerConfig:
    """With the device that `auto` and `gpu` mean here, so that Lightning takes the same."""
    return replace(trainer, accelerator=device_of(trainer.accelerator).type)


def device_of(accelerator: str) -> torch.device:
    """CUDA where it is asked for and there, else the CPU; never MPS, which has no float64."""
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("cpu")
