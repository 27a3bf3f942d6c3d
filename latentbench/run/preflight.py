"""Before anything is trained: gather what a run starts from, and refuse what cannot work."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from latentbench.config.sections import Config
from latentbench.errors import InputError
from latentbench.evaluation.benchmark import Benchmark
from latentbench.evaluation.interventions import steps_under
from latentbench.evaluation.loading import Home, check_split, items_digest, load_benchmark, short
from latentbench.model.backbone import Outline, outline
from latentbench.model.layout import Layout
from latentbench.model.policy import check_fits
from latentbench.model.tokenizer import tokenizer_digest
from latentbench.records import Item, Splits
from latentbench.run.init_store import identify, latents_at_test, layout_of
from latentbench.runtime.device import check_device
from latentbench.runtime.loggers import check_loggers
from latentbench.runtime.provenance import digest


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
    home = Home(config.data.name, data, config.data.root, config.reward, choices["reward"])
    return Start(data, outlined, layout_of(config, outlined), home, inputs)


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


def check_surroundings(config: Config) -> None:
    """Refuse what this machine cannot do: loggers, a device, a place for inits."""
    check_loggers(config)
    check_device(config.trainer)
    root = Path(config.init.root).expanduser()
    found = next(p for p in (root, *root.absolute().parents) if p.exists())
    if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
        raise InputError(f"init.root={root}: {found} is no writable directory; choose another")


def check_golds(config: Config, data: Splits) -> None:
    """Refuse gold answers that no text can match, in any split, before anything is trained."""
    parts = {"training": data.train, "validation": data.validation, "test": data.test}
    for split, items in parts.items():
        check_split(f"data={config.data.name}: {split}", items, config.reward, config.data)


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
                question = short(layout.decode(prompt.ids).strip())
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
        label = f"{what} {short(item.question)}"
        check_fits(len(prompt.ids), latents, max(text, budget), positions, label)
