"""Before anything is trained: gather what a run starts from, and refuse what cannot work."""

from __future__ import annotations

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
from latentbench.init_stage import identify, latents_at_test, layout_of
from latentbench.layout import Layout
from latentbench.models import Outline, outline
from latentbench.policy import check_fits
from latentbench.records import Item, Splits
from latentbench.runtime.loggers import check_loggers
from latentbench.runtime.provenance import digest
from latentbench.schema import Config, TrainerConfig
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
    outlined = outline(config.model, config.init.path, config.init.revision)
    init = identify(config, choices, data, outlined.tokenizer)
    inputs = digest([data.provenance["digest"], tokenizer_digest(outlined.tokenizer), init])
    return Start(data, outlined, layout_of(config, outlined), inputs)


def limited(data: Splits, config: Config) -> Splits:
    """The data set cut down by `limit.train_items`; test items are cut per benchmark."""
    count = config.limit.train_items
    return data if count is None else replace(data, train=list(data.train)[:count])


def load_benchmark(name: str, config: Config, data: Splits, layout: Layout) -> Benchmark:
    """A benchmark's items as prompts: from the run's own data set, or from another one's file.

    Raises InputError for a gold answer that the grader cannot read, naming the item.
    """
    if name == config.data.name:
        splits = data
    else:
        kind = schema.plugin("data", name)
        if kind is None:
            raise InputError(f"eval={name}: no data set of that name in latentbench/data")
        root = getattr(config.data, "root", None)
        takes_root = "root" in getattr(kind, "__dataclass_fields__", {})
        splits = kind(root=root).load() if takes_root else kind().load()  # type: ignore[attr-defined]
    items = list(getattr(splits, config.protocol.split))
    for limit in (config.eval[name].limit, config.limit.eval_items):
        items = items if limit is None else items[:limit]
    if splits is not data:  # the run's own data set has been checked by itself
        _check_split(f"eval={name}", items, config, None)
        _check_unseen(name, items, config, data)
    return Benchmark(name, tuple(layout.prompts(items)), tuple(item.question for item in items))


def check_surroundings(config: Config) -> None:
    """Refuse what this machine cannot do: loggers, a device, a place for inits."""
    check_loggers(config)
    accelerator = config.trainer.accelerator
    if accelerator == "mps":
        raise InputError(
            "trainer.accelerator=mps: has no float64, in which answers are sampled; use trainer=cpu"
        )
    if accelerator in ("gpu", "cuda") and device_of(accelerator).type == "cpu":
        raise InputError(
            f"trainer.accelerator={accelerator}: no such device here; use trainer=cpu or "
            "trainer.accelerator=auto"
        )
    root = Path(config.init.root).expanduser()
    found = next(p for p in (root, *root.absolute().parents) if p.exists())
    if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
        raise InputError(f"init.root={root}: {found} is no writable directory; choose another")


def _check_unseen(name: str, items: Sequence[Item], config: Config, data: Splits) -> None:
    """Refuse a benchmark of another data set that holds training questions of this one."""
    trained = {normalise(item.question) for item in data.train}
    common = [item for item in items if normalise(item.question) in trained]
    if common:
        raise InputError(
            f"eval={name}: {len(common)} of its {len(items)} items are training questions of "
            f"data={config.data.name}, e.g. {_short(common[0].question)}; leave it out of eval"
        )


def check_golds(config: Config, data: Splits) -> None:
    """Refuse gold answers that no text can match, in any split, before anything is trained."""
    parts = {"training": data.train, "validation": data.validation, "test": data.test}
    for split, items in parts.items():
        _check_split(f"data={config.data.name}: {split}", items, config, config.data)


def _check_split(what: str, items: Sequence[Item], config: Config, source: Any) -> None:
    for item in items:
        try:
            config.reward.check_gold(item.answer)
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
    for benchmark in benchmarks:
        for prompt in benchmark.prompts:
            if len(prompt.ids) + latents + 1 + budget > positions:
                question = _short(layout.decode(prompt.ids).strip())
                what = f"eval={benchmark.name}: question {question}"
                check_fits(len(prompt.ids), latents, budget, positions, what)
    what = f"data={config.data.name}: training question"
    written = config.init.path is None
    answered = 0 if config.algorithm == "sft" else budget
    _check_items(what, data.train, layout, written, latents, answered, positions)
    if config.algorithm != "sft":
        what = f"data={config.data.name}: validation question"
        items = list(data.validation)[: config.rl.validation_items]
        _check_items(what, items, layout, False, latents, budget, positions)


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
