"""The typed configuration: its sections, what Hydra is told of them, the cross-field rules.

Every plug-in is registered as the Hydra schema `<kind>/base_<name>`, which its YAML file
`conf/<kind>/<name>.yaml` lists in its defaults: wrong names, types and keys fail while the
configuration is composed.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from latentbench.config.compatibility import Combination, check_parts
from latentbench.config.plugins import (
    KINDS,
    external_plugins,
    file_names,
    plugin,
    plugin_name,
    plugin_names,
    writable,
)
from latentbench.errors import InputError, refuse_unknown

# Where "none" is one of the choices.
NONE_IS_A_WORD = ("noise.pairs", "protocol.intervention")

# Without a gradient scaler, which 16-bit floats would need.
PRECISIONS = ("32-true", "bf16-mixed")
NAME = r"[A-Za-z0-9][\w.+-]*"
INTERVENTIONS = ("none", "zero", "mean", "shuffle", "skip", "noise")


@dataclass
class ModelConfig:
    """Where a model comes from: `path` (a local Hugging Face directory), else `hub_id`, else from
    scratch by `architecture` (the keys of the transformers config of its `model_type`)."""

    name: str = MISSING
    path: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    tokenizer: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)


@dataclass
class InitConfig:
    """The SFT model from which RL starts: built once under `root`, or taken from `path`."""

    path: str | None = None
    revision: str | None = None
    seed: int = 0
    root: str = "inits"


@dataclass
class LatentConfig:
    """Latent slots: `per_step` for each written step replaced, for at most `max_stage` steps."""

    per_step: int = MISSING
    max_stage: int = MISSING
    pad_to_max: bool = True


@dataclass
class SftConfig:
    """The supervised stage. `stages` lists the length of each stage, in `unit` updates or epochs.

    `warmup` counts the updates of a linear rise of the learning rate after every optimizer reset,
    `cooldown` those of a linear fall towards 0 that ends with the last update.
    A problem is drawn from another stage with probability `mix`: an `earlier` one (or this one), or
    `all` that the problem has (the official code's uniform_prob). `mix_by` draws for each `row`, or
    once for the whole `batch`.

    With a `gate` a stage ends when greedy accuracy on `look_items` validation problems, seen after
    every `look_every` updates, reaches it; in the last stage `target`, after every `target_every`
    (null: the same). `stages` are the most that each may take; a stage that takes them all ends the
    run as failed, unless `at_cap` is `go_on`. `last_lr` scales the learning rate of the last stage.
    """

    lr: float = MISSING
    warmup: int = 0
    cooldown: int = 0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = 0.01
    batch_size: int = MISSING
    micro_batch: int = 1024
    unit: str = "updates"
    stages: list[int] = MISSING
    mix: float = 0.0
    mix_over: str = "earlier"
    mix_by: str = "row"
    gate: float | None = None
    target: float | None = None
    look_every: int = 10
    target_every: int | None = None
    look_items: int = 200
    at_cap: str = "stop"
    last_lr: float = 1.0
    reset_optimizer: str = "stage"
    grad_clip: float | None = None
    dropout: float = 0.0


@dataclass
class RlConfig:
    """Group-relative RL: `prompts` groups of `group_size` rollouts per update.

    `keep` decides which groups an update learns from: `all`, or the first `prompts` of the `mixed`
    ones among `over_provision` times as many. `mask_rate` is the rate that suits the data set; mask
    noises take it as their `noise.rate` unless that is set. `trainable` is what is trained: `all`,
    `no_embeddings` (nor the LM head) or `value_projections` alone.

    `seconds` ends `algorithm=sft_continued` by time spent rather than after `updates`.
    """

    updates: int = MISSING
    prompts: int = MISSING
    group_size: int = MISSING
    lr: float = MISSING
    weight_decay: float = 0.0
    grad_clip: float | None = 1.0
    inner_updates: int = 1
    keep: str = "all"
    over_provision: int = 1
    kl: float = 0.0
    trainable: str = "all"
    seconds: float | None = None
    mask_rate: float = 0.2
    rollout_rows: int = 1024
    micro_batch: int = 1024
    validate_every: int = 0
    validation_items: int = 500
    select: str = "last"


@dataclass
class AnswerConfig:
    """How answers are written during RL: `temperature` 0 is greedy; at most `budget` tokens."""

    temperature: float = 1.0
    budget: int = 64


@dataclass
class BenchmarkConfig:
    """One benchmark: the held-out part of a data set, or its first `limit` items.

    `root` is where its files lie, if not below `data.root`, or the word hub; `options` are knobs of
    the data set, such as {sample: logic_lm}; `grader` is a reward by name, where not its own.
    """

    limit: int | None = None
    root: str | None = None
    grader: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class ProtocolConfig:
    """How every benchmark is run, the same for every method that shares a table.

    pass@1 is greedy without noise. The `samples` draws behind pass@k and maj@k explore by `answer`
    (tokens at `temperature`, no noise), `latent` (the method's noise, greedy tokens) or `both`.
    The latents of the first `thought_items` items are kept to be looked at.

    `latent_steps` is the number of latent slots at test, null for as many as trained.
    `intervention` puts something else into the slots: `zero`, the `mean` of all items at that step,
    the thoughts of another item (`shuffle`), Gaussian `noise` of the items' mean and deviation;
    `skip` leaves the slots out.

    `second_opinion` names another grader, such as math_verify, that sees the greedy answers too:
    how often it disagrees is logged and changes no score.
    """

    split: str = "test"
    samples: int = 16
    ks: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    temperature: float = 1.0
    explore: str = "answer"
    seed: int = 0
    batch_rows: int = 4096
    thought_items: int = 4
    latent_steps: int | None = None
    intervention: str = "none"
    second_opinion: str | None = None


@dataclass
class LimitConfig:
    """Caps for a quick look, null for none: items, SFT updates per stage, RL updates."""

    train_items: int | None = None
    eval_items: int | None = None
    sft_updates_per_stage: int | None = None
    rl_updates: int | None = None
    samples: int | None = None


@dataclass
class DeviceConfig:
    """Which devices are used, how many CPU `threads` PyTorch may take, and how progress is shown.

    Null is PyTorch's own choice; OMP_NUM_THREADS in the environment is never exceeded.
    """

    accelerator: str = "auto"
    devices: int = 1
    threads: int | None = None
    progress: str = "auto"


@dataclass
class TrainerConfig(DeviceConfig):
    """What is handed to `lightning.Trainer`."""

    precision: str = "32-true"
    deterministic: bool = True
    detect_anomaly: bool = False
    profiler: str | None = None
    checkpoint_every: int = 100


@dataclass
class WandbConfig:
    """W&B, on top of the CSV file that every run writes."""

    project: str = "latentbench"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    mode: str = "online"


@dataclass
class TensorboardConfig:
    """TensorBoard event files in the run directory, on top of the CSV file."""

    flush_seconds: int = 30


@dataclass
class Config:
    """The whole experiment. `positions` is how many a model built from scratch has; `choices` names
    the option of every group, which its values alone do not always tell."""

    method: str = MISSING
    algorithm: str = MISSING
    seed: int = 0
    positions: int = 1024
    data: Any = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    curriculum: Any = MISSING
    latent: LatentConfig = field(default_factory=LatentConfig)
    sft_loss: Any = MISSING
    sft: SftConfig = field(default_factory=SftConfig)
    carrier: Any = MISSING
    noise: Any = MISSING
    answer: AnswerConfig = field(default_factory=AnswerConfig)
    reward: Any = MISSING
    advantage: Any = MISSING
    transform: dict[str, Any] = field(default_factory=dict)
    policy_loss: Any = MISSING
    latent_loss: Any = MISSING
    rl: RlConfig = field(default_factory=RlConfig)
    eval: dict[str, BenchmarkConfig] = field(default_factory=dict)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    limit: LimitConfig = field(default_factory=LimitConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)


# -- what Hydra is told -------------------------------------------------------------------------


def register() -> None:
    """Tell Hydra every schema: the root, the sections that are groups, and all plug-ins."""
    store = ConfigStore.instance()
    store.store(name="base_config", node=Config)
    for group, schema in (
        ("model/base_model", ModelConfig),
        ("answer/base_answer", AnswerConfig),
        ("logger/base_wandb", WandbConfig),
        ("logger/base_tensorboard", TensorboardConfig),
    ):
        folder, name = group.split("/")
        store.store(group=folder, name=name, node=schema)
    benchmark = _open(BenchmarkConfig, "options")
    for name in plugin_names("data"):  # every data set can be tested on
        store.store(group="eval", name=name, node=benchmark, package=f"eval.{name}")
    for kind in KINDS:
        for name in file_names(kind):
            schema = plugin(kind, name)
            if schema is not None:
                store.store(group=kind, name=f"base_{name}", node=writable(schema))
    for kind, name in external_plugins():
        store.store(group=kind, name=f"base_{name}", node={})
    _load_when_chosen(store)
    _hide_schemas(store)


def _load_when_chosen(store: ConfigStore) -> None:
    """Import a plug-in of another package only for the configuration that names its schema.

    A start imports no stranger's code, and a broken package stops nobody who does not use it.
    """

    def load(config_path: str) -> ConfigNode:
        kind, _, schema = config_path.removesuffix(".yaml").partition("/")
        name = schema.removeprefix("base_")
        if schema != name and (kind, name) in external_plugins():
            cls = plugin(kind, name)
            assert cls is not None
            store.store(group=kind, name=schema, node=writable(cls))
        return ConfigStore.load(store, config_path)

    store.load = load  # type: ignore[method-assign]


def _hide_schemas(store: ConfigStore) -> None:
    """Keep `base_*` out of --help, completion and lists of legal options: nobody chooses them."""

    def visible(path: str) -> list[str]:
        return [name for name in ConfigStore.list(store, path) if not name.startswith("base_")]

    store.list = visible  # type: ignore[method-assign]


def _open(schema: type, key: str) -> DictConfig:
    """A schema with a dictionary that takes new keys on the command line, without a `+`."""
    node = OmegaConf.structured(schema)
    OmegaConf.set_struct(node._get_node(key), False)
    return node


# -- from a composed configuration to typed objects ----------------------------------------------


def typed(composed: DictConfig, choices: Mapping[str, str] = MappingProxyType({})) -> Config:
    """The composed configuration as typed objects, checked; `choices` are the names of its options,
    for messages.

    Raises InputError for what Hydra lets through: keys that nothing reads, `_target_`, the word
    None for a missing value, values outside their range, and fields that contradict each other.
    """
    config = as_objects(composed)
    assert isinstance(config, Config)
    _check_limits(config)
    apply_limits(config)
    check(config, choices)
    refuse_infinite(composed)
    return config


def refuse_infinite(composed: DictConfig) -> None:
    """No number of a configuration is infinite or none at all. Raises InputError."""
    for path, value in _leaves(composed, None, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{path}={value}: must be a finite number")


def as_objects(composed: DictConfig) -> Any:
    """The composed configuration as typed objects, whose values have yet to be checked."""
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing:
        raise InputError(
            f"{missing[0]} has no value; set it on the command line or choose a recipe with it"
        )
    for path, value in _leaves(composed, Config, ""):
        word = path in NONE_IS_A_WORD or path.startswith("choices.")
        if value in ("None", "none", "NULL") and not word:
            raise InputError(f"{path}={value}: that is a word; write null for no value")
    return OmegaConf.to_object(composed)


def _leaves(node: Any, schema: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every leaf with its path, refusing keys that the schema does not have."""
    if isinstance(node, ListConfig):
        for index, child in enumerate(node):
            yield from _leaves(child, None, f"{path}[{index}]")
    elif isinstance(node, DictConfig):
        known = OmegaConf.get_type(node)
        names = (
            {f.name for f in dataclasses.fields(known)} if dataclasses.is_dataclass(known) else None
        )
        if names is None and path in KINDS and path != "transform":
            raise InputError(f"{path}: choose one with {path}=<name>; --help lists the names")
        for key in node:
            child = f"{path}.{key}" if path else str(key)
            if key == "_target_":
                raise InputError(f"{child}: class paths are not read; choose a plug-in by its name")
            if names is not None and key not in names:
                raise InputError(f"{child}: nothing reads this key; {_legal(path, names)}")
            if path in ("transform", "eval", "logger") and not dataclasses.is_dataclass(
                OmegaConf.get_type(node, str(key))
            ):
                raise InputError(f"{child}: choose with {path}=[...]; --help lists the names")
            yield from _leaves(node[key], None, child)
    else:
        yield path, node


def is_protocol_key(name: str) -> bool:
    """Whether `protocol.<name>` exists."""
    return name in {field.name for field in dataclasses.fields(ProtocolConfig)}


def _legal(path: str, names: set[str]) -> str:
    where = path or "the top level"
    return f"{where} has {', '.join(sorted(names)) if names else 'no options'}"


def apply_limits(config: Config) -> None:
    """Shorten the experiment by `limit`; the shortened values are what the run records."""
    limit = config.limit
    if limit.sft_updates_per_stage is not None:
        config.sft.stages = _capped(config.sft, limit.sft_updates_per_stage)
        config.sft.unit = "updates"
    if limit.rl_updates is not None:
        config.rl.updates = min(config.rl.updates, limit.rl_updates)
    if limit.samples is not None:
        config.protocol.samples = min(config.protocol.samples, limit.samples)
        config.protocol.ks = [k for k in config.protocol.ks if k <= config.protocol.samples]
    if limit.eval_items is not None:
        config.rl.validation_items = min(config.rl.validation_items, limit.eval_items)


def _check_limits(config: Config) -> None:
    """Checked before they are applied, so that a message names the key that was set."""
    for name, value in vars(config.limit).items():
        if value is not None and value < 1:
            raise InputError(f"limit.{name}={value}: must be at least 1, or null for no limit")


def _capped(sft: SftConfig, most: int) -> list[int]:
    """At most so many updates per stage (for stages counted in epochs: so many); 0 stays 0."""
    if sft.unit == "updates":
        return [min(length, most) for length in sft.stages]
    return [most if length else 0 for length in sft.stages]


def check(config: Config, choices: Mapping[str, str] = MappingProxyType({})) -> None:
    """The rules between fields. Each message names the key, the value and the way out."""
    rules = (_check_trainer, _check_numbers, _check_choices, check_protocol, _check_rl)
    for rule in (*rules, _check_gate, _check_stages):
        rule(config)
    check_parts(parts_of(config, choices))


def parts_of(config: Config, choices: Mapping[str, str]) -> Combination:
    """The parts of a method by the names of their options, else of their files."""

    def named(kind: str) -> tuple[str, Any]:
        part = getattr(config, kind)
        return choices.get(kind, plugin_name(part)), part

    return Combination(
        carrier=named("carrier"),
        noise=named("noise"),
        latent_loss=named("latent_loss"),
        transforms=tuple(config.transform.items()),
        latent=config.curriculum.markers,
    )


def _check_numbers(config: Config) -> None:
    at_least = {
        "seed": (config.seed, 0),
        "init.seed": (config.init.seed, 0),
        "latent.per_step": (config.latent.per_step, 1),
        "latent.max_stage": (config.latent.max_stage, 1),
        "sft.batch_size": (config.sft.batch_size, 1),
        "sft.micro_batch": (config.sft.micro_batch, 1),
        "rl.updates": (config.rl.updates, 1),
        "rl.prompts": (config.rl.prompts, 1),
        "rl.inner_updates": (config.rl.inner_updates, 1),
        "rl.over_provision": (config.rl.over_provision, 1),
        "rl.micro_batch": (config.rl.micro_batch, 1),
        "rl.rollout_rows": (config.rl.rollout_rows, 1),
        "rl.validate_every": (config.rl.validate_every, 0),
        "rl.validation_items": (config.rl.validation_items, 1),
        "rl.kl": (config.rl.kl, 0),
        "rl.weight_decay": (config.rl.weight_decay, 0),
        "sft.weight_decay": (config.sft.weight_decay, 0),
        "sft.warmup": (config.sft.warmup, 0),
        "sft.cooldown": (config.sft.cooldown, 0),
        "sft.look_every": (config.sft.look_every, 1),
        "sft.target_every": (config.sft.target_every or 1, 1),
        "sft.look_items": (config.sft.look_items, 1),
        "answer.budget": (config.answer.budget, 1),
        "answer.temperature": (config.answer.temperature, 0),
        "positions": (config.positions, 1),
    }
    _refuse_small(at_least)
    _refuse_large(config)
    if not re.fullmatch(NAME, config.model.name, re.ASCII):
        raise InputError(
            f"model.name={config.model.name!r}: names stand in folders and tables; letters, digits "
            "and _ . + - alone, a letter or digit first"
        )
    for key, value in (("sft.lr", config.sft.lr), ("rl.lr", config.rl.lr)):
        if not 0 < value < 1e35:  # beyond it a step is no 32-bit number
            raise InputError(f"{key}={value}: a learning rate is above 0, for example 1e-4")
    if len(config.sft.betas) != 2:
        raise InputError(f"sft.betas={config.sft.betas}: AdamW has two, for example [0.9,0.999]")
    shares = {"sft.mix": [config.sft.mix], "sft.dropout": [config.sft.dropout]}
    for key, values in (shares | {"sft.betas": config.sft.betas}).items():
        if not all(0 <= value < 1 for value in values):
            shown = values if key == "sft.betas" else values[0]
            raise InputError(f"{key}={shown}: must lie in [0, 1)")
    for key, clip in (
        ("sft.grad_clip", config.sft.grad_clip),
        ("rl.grad_clip", config.rl.grad_clip),
    ):
        if clip is not None and not clip > 0:
            raise InputError(f"{key}={clip}: must be above 0, or null for no clipping")


def _check_choices(config: Config) -> None:
    choices = {
        "algorithm": (config.algorithm, ("sft", "grpo", "sft_continued")),
        "rl.trainable": (config.rl.trainable, ("all", "no_embeddings", "value_projections")),
        "sft.unit": (config.sft.unit, ("updates", "epochs")),
        "sft.mix_over": (config.sft.mix_over, ("earlier", "all")),
        "sft.mix_by": (config.sft.mix_by, ("row", "batch")),
        "sft.at_cap": (config.sft.at_cap, ("stop", "go_on")),
        "sft.reset_optimizer": (config.sft.reset_optimizer, ("never", "stage", "epoch")),
        "rl.keep": (config.rl.keep, ("all", "mixed")),
    }
    _refuse_unknown(choices)
    if config.rl.select == "test":
        raise InputError(
            "rl.select=test: a checkpoint is never chosen on test items; use validation or last"
        )
    if config.rl.select not in ("last", "validation"):
        raise InputError(f"rl.select={config.rl.select}: choose last or validation")
    if config.rl.select == "validation" and config.rl.validate_every == 0:
        raise InputError("rl.select=validation needs rl.validate_every above 0, for example 50")


def _refuse_small(at_least: Mapping[str, tuple[float, float]]) -> None:
    for key, (value, least) in at_least.items():
        if not value >= least:
            raise InputError(f"{key}={value}: must be at least {least}")


def _refuse_large(config: Config) -> None:
    """Sizes that no machine holds, before anything of that size is made."""
    at_most = {
        "positions": (config.positions, 10**7),
        "latent.per_step": (config.latent.per_step, 10**4),
        "latent.max_stage": (config.latent.max_stage, 10**4),
        "answer.budget": (config.answer.budget, 10**6),
        "rl.group_size": (config.rl.group_size, 10**5),
        "rl.prompts": (config.rl.prompts, 10**6),
        "rl.over_provision": (config.rl.over_provision, 10**3),
        "protocol.samples": (config.protocol.samples, 10**5),
    }
    for key, (value, most) in at_most.items():
        if value > most:
            raise InputError(f"{key}={value}: must be at most {most}")


def _refuse_unknown(choices: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    for key, (value, legal) in choices.items():
        refuse_unknown(key, value, legal)


def check_devices(trainer: DeviceConfig) -> None:
    """The rules of `trainer`, as far as they are the same for training runs and evaluations."""
    threads = 1 if trainer.threads is None else trainer.threads
    _refuse_small({"trainer.devices": (trainer.devices, 1), "trainer.threads": (threads, 1)})
    _refuse_unknown(
        {
            "trainer.progress": (trainer.progress, ("auto", "rich", "plain", "quiet")),
            "trainer.accelerator": (trainer.accelerator, ("auto", "cpu", "gpu", "cuda", "mps")),
        }
    )


def _check_trainer(config: Config) -> None:
    trainer = config.trainer
    check_devices(trainer)
    _refuse_small({"trainer.checkpoint_every": (trainer.checkpoint_every, 1)})
    _refuse_unknown(
        {
            "trainer.precision": (trainer.precision, PRECISIONS),
            "trainer.profiler": (trainer.profiler or "simple", ("simple", "advanced")),
        }
    )


def check_protocol(config: Any) -> None:
    """The rules of `protocol` and `eval`, the same for training runs and for evaluations."""
    protocol = config.protocol
    steps = protocol.latent_steps
    _refuse_small(
        {
            "protocol.seed": (protocol.seed, 0),
            "protocol.samples": (protocol.samples, 1),
            "protocol.temperature": (protocol.temperature, 0),
            "protocol.batch_rows": (protocol.batch_rows, 1),
            "protocol.thought_items": (protocol.thought_items, 0),
            "protocol.latent_steps": (0 if steps is None else steps, 0),
        }
    )
    _refuse_unknown(
        {
            "protocol.split": (protocol.split, ("train", "validation", "test")),
            "protocol.explore": (protocol.explore, ("answer", "latent", "both")),
            "protocol.intervention": (protocol.intervention, INTERVENTIONS),
        }
    )
    if protocol.second_opinion is not None:
        _refuse_unknown(
            {"protocol.second_opinion": (protocol.second_opinion, plugin_names("reward"))}
        )
    for k in protocol.ks:
        if not 1 <= k <= protocol.samples:
            raise InputError(
                f"protocol.ks={protocol.ks}: pass@{k} needs between 1 and protocol.samples="
                f"{protocol.samples} samples; raise protocol.samples or drop k={k}"
            )
    if protocol.explore != "latent" and protocol.temperature == 0:
        raise InputError(
            "protocol.temperature=0 with protocol.explore=" + protocol.explore + ": every sample "
            "would be the greedy answer; use a temperature above 0 or explore=latent"
        )
    if protocol.intervention != "none" and steps == 0:
        raise InputError(
            f"protocol.intervention={protocol.intervention} with protocol.latent_steps=0: there "
            "are no latents to change; leave one of the two out"
        )
    if protocol.intervention == "skip" and steps is not None:
        raise InputError(
            f"protocol.intervention=skip with protocol.latent_steps={steps}: skip means no latent "
            "steps; leave one of the two out"
        )
    if not config.eval:
        raise InputError("eval=[]: a run without a benchmark has no result; e.g. eval=[sums]")
    for name, benchmark in config.eval.items():
        if benchmark.limit is not None and benchmark.limit < 1:
            raise InputError(
                f"eval.{name}.limit={benchmark.limit}: must be at least 1, or null for no limit"
            )


def _check_rl(config: Config) -> None:
    rl = config.rl
    if config.algorithm == "grpo" and rl.group_size < 2:
        raise InputError(
            f"rl.group_size={rl.group_size}: a group-relative advantage compares rollouts of one "
            "prompt, so it needs at least 2"
        )
    if config.algorithm == "sft" and config.init.path is not None:
        raise InputError(
            f"init.path={config.init.path} with method={config.method}: that is the start of RL; "
            "to start SFT from trained weights use model.path=<directory>"
        )
    if rl.over_provision > 1 and rl.keep != "mixed":
        raise InputError(
            f"rl.over_provision={rl.over_provision} with rl.keep={rl.keep}: spare groups are only "
            "of use with rl.keep=mixed"
        )
    if rl.trainable == "value_projections" and rl.weight_decay > 0:
        raise InputError(
            f"rl.weight_decay={rl.weight_decay} with rl.trainable=value_projections: decay would "
            "move the frozen weights in the same matrix; set rl.weight_decay=0"
        )
    if rl.seconds is not None and not (rl.seconds > 0 and config.algorithm == "sft_continued"):
        raise InputError(
            f"rl.seconds={rl.seconds}: above 0, and only for algorithm=sft_continued; RL runs for "
            "rl.updates"
        )
    if rl.seconds is not None and config.sft.cooldown:
        raise InputError(
            f"rl.seconds={rl.seconds} with sft.cooldown={config.sft.cooldown}: nobody knows how "
            "many updates are left; set rl.seconds=null, or sft.cooldown=0"
        )
    if config.algorithm == "sft_continued":
        _check_continued(config)
    if config.trainer.devices != 1:
        raise InputError(
            f"trainer.devices={config.trainer.devices}: a run uses one device; run seeds side by "
            "side with -m seed=0,1,2 (one process per GPU)"
        )


def _check_continued(config: Config) -> None:
    rl, sft = config.rl, config.sft
    if rl.kl > 0:
        raise InputError(
            f"rl.kl={rl.kl} with method={config.method}: SFT has no penalty towards its start; set "
            "rl.kl=0"
        )
    if rl.trainable == "value_projections" and sft.weight_decay > 0:
        raise InputError(
            f"sft.weight_decay={sft.weight_decay} with rl.trainable=value_projections: decay would "
            "move the frozen weights in the same matrix; set sft.weight_decay=0"
        )


def _check_gate(config: Config) -> None:
    sft = config.sft
    for key, share in (("sft.gate", sft.gate), ("sft.target", sft.target)):
        if share is not None and not 0 < share <= 1:
            raise InputError(f"{key}={share}: a share of right answers above 0, at most 1")
    if not 0 < sft.last_lr <= 1:
        raise InputError(f"sft.last_lr={sft.last_lr}: a share of sft.lr above 0, at most 1")
    if sft.target is not None and sft.gate is None:
        raise InputError(
            f"sft.target={sft.target} without sft.gate: stages of fixed length have no target; set "
            "sft.gate too, or sft.target=null"
        )
    if sft.gate is not None and sft.cooldown:
        raise InputError(
            f"sft.cooldown={sft.cooldown} with sft.gate={sft.gate}: nobody knows when the last "
            "update is; set sft.cooldown=0, or sft.gate=null"
        )


def _check_stages(config: Config) -> None:
    if not config.latent.pad_to_max:
        raise InputError(
            "latent.pad_to_max=False: problems with fewer steps would be trained with fewer slots "
            "than all are tested with; leave it out"
        )
    if not config.sft.stages or min(config.sft.stages) < 0 or max(config.sft.stages) == 0:
        raise InputError(
            f"sft.stages={config.sft.stages}: one length per stage, none negative, not all 0"
        )
    slots = slots_of(config)
    needed = config.curriculum.last_stage(slots) + 1
    trains = config.init.path is None or config.algorithm == "sft_continued"
    if len(config.sft.stages) < needed and trains:
        raise InputError(
            f"sft.stages={config.sft.stages}: {len(config.sft.stages)} stages, but "
            f"latent.max_stage={slots.max_stage} needs {needed} (stage 0 writes all steps out)"
        )


def slots_of(config: Config) -> Any:
    """The latent slots of an experiment as the curricula read them."""
    from latentbench.records import Slots

    latent = config.latent
    return Slots(latent.per_step, latent.max_stage, latent.pad_to_max)
