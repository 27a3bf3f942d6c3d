"""What a run reads of its configuration: a key of the command line that nothing reads is refused.

Each rule names sections or keys and says when nothing reads them, and why. Values in files stay
free, since a recipe is written for many methods.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentbench.config.plugins import native_choices
from latentbench.config.sections import Config
from latentbench.errors import InputError

# What group-relative RL alone reads; and of `rl` what SFT carried on reads too.
OBJECTIVE = ("advantage", "transform", "policy_loss", "latent_loss", "answer.temperature")
CONTINUED = ("updates", "seconds", "trainable")
# Groups whose files write a key rather than a section of their name.
WRITES = {"trainable": "rl.trainable", "answer": "answer.temperature"}


@dataclass(frozen=True)
class Rule:
    """`keys` (sections or leaves) are read by nothing where `holds`; `why` is the reason.

    Both take the typed configuration of the command.
    """

    keys: tuple[str, ...]
    holds: Callable[[Any], bool]
    why: Callable[[Any], str]


def _is(*algorithms: str) -> Callable[[Config], bool]:
    return lambda config: config.algorithm in algorithms


def _trains_alone(config: Config) -> str:
    return f"method={config.method} trains by SFT alone"


def _from_scratch(config: Config) -> bool:
    return config.model.path is None and config.model.hub_id is None


UNSAMPLED = Rule(
    ("protocol.temperature",),
    lambda c: c.protocol.explore == "latent",
    lambda _: "protocol.explore=latent writes the most probable tokens",
)
RULES = (
    Rule(("choices",), lambda _: True, lambda _: "it tells what <group>=<option> has chosen"),
    Rule((*OBJECTIVE, "rl", "limit.rl_updates"), _is("sft"), _trains_alone),
    Rule(("init.seed",), _is("sft"), lambda c: f"{_trains_alone(c)}, from seed=..."),
    Rule(
        (*OBJECTIVE, *(f"rl.{name}" for name in vars(Config().rl) if name not in CONTINUED)),
        _is("sft_continued"),
        lambda c: f"method={c.method} carries SFT on, without rewards",
    ),
    Rule(
        ("noise", "rl.mask_rate"),
        lambda c: c.algorithm != "grpo" and c.protocol.explore == "answer",
        lambda c: (
            f"method={c.method} trains without noise, and protocol.explore=answer tests without"
        ),
    ),
    Rule(
        ("rl.updates",),
        lambda c: c.rl.seconds is not None,
        lambda c: f"rl.seconds={c.rl.seconds} ends the training",
    ),
    Rule(
        ("rl.mask_rate",),
        lambda c: "rate" not in {field.name for field in dataclasses.fields(c.noise)},
        lambda c: f"{type(c.noise).__name__} has no rate",
    ),
    Rule(
        ("rl.validation_items",),
        lambda c: c.rl.validate_every == 0,
        lambda _: "rl.validate_every=0 validates nothing",
    ),
    Rule(
        ("init.seed",),
        lambda c: c.init.path is not None,
        lambda c: f"the start model is init.path={c.init.path}",
    ),
    Rule(
        ("sft", "sft_loss", "limit.sft_updates_per_stage"),
        lambda c: c.init.path is not None and c.algorithm == "grpo",
        lambda c: f"the start model is init.path={c.init.path}",
    ),
    Rule(
        ("init.revision",),
        lambda c: c.init.path is None,
        lambda _: "it is of init.path, which is not set",
    ),
    Rule(
        ("model.revision",),
        _from_scratch,
        lambda c: f"model={c.model.name} is built from scratch",
    ),
    Rule(
        ("model.architecture", "positions"),
        lambda c: not _from_scratch(c),
        lambda c: f"the weights come from {c.model.path or c.model.hub_id}",
    ),
    Rule(
        ("sft.look_every", "sft.target_every", "sft.look_items", "sft.at_cap"),
        lambda c: c.sft.gate is None,
        lambda _: "sft.gate=null: stages have fixed lengths",
    ),
    UNSAMPLED,
    Rule(
        ("latent",),
        lambda c: not c.curriculum.markers,
        lambda c: f"method={c.method} has no latent slots",
    ),
)

EVALUATION_RULES = (
    UNSAMPLED,
    Rule(
        ("noise",),
        lambda c: c.protocol.explore == "answer",
        lambda _: "protocol.explore=answer tests without noise",
    ),
    Rule(
        ("answer.temperature",),
        lambda _: True,
        lambda _: "samples are drawn at protocol.temperature",
    ),
)


def check_read(
    config: Config, choices: Mapping[str, str], overrides: Sequence[str], conf: Path
) -> None:
    """Refuse what the command line sets and this run never reads, and names that lie.

    `overrides` are the arguments `key=value` of the run, `choices` the option of every group. A
    choice that the method makes anyway is no harm. Raises InputError.
    """
    check_names(config, choices, conf)
    native = native_choices(conf, config.method)
    refuse(RULES, config, choices, overrides, native)


def check_read_by_evaluation(
    config: Any, choices: Mapping[str, str], overrides: Sequence[str]
) -> None:
    """The same of the evaluation command. Raises InputError."""
    refuse(EVALUATION_RULES, config, choices, overrides, {})


def refuse(
    rules: Sequence[Rule],
    config: Any,
    choices: Mapping[str, str],
    overrides: Sequence[str],
    native: Mapping[str, str],
) -> None:
    """Raise InputError for the first override that a rule says is not read."""
    for override in overrides:
        name, _, value = override.partition("=")
        name = name.lstrip("+~").partition("@")[0].replace("/", ".")
        if name in choices and native.get(name) == value:
            continue
        key = WRITES.get(name, name) if name in choices else name
        for rule in rules:
            meant = any(f"{key}.".startswith(f"{unread}.") for unread in rule.keys)
            if meant and rule.holds(config):
                raise InputError(
                    f"{override}: nothing reads it in this run, since {rule.why(config)}; leave it "
                    "out"
                )


def check_names(config: Config, choices: Mapping[str, str], conf: Path) -> None:
    """Refuse names that lie: a method that is not its own algorithm, a data set that goes by the
    name of another. Raises InputError."""
    own = native_choices(conf, config.method).get("algorithm", config.algorithm)
    if config.algorithm != own:
        raise InputError(
            f"algorithm={config.algorithm} with method={config.method}: that method is "
            f"algorithm={own}, and its name would lie; choose a method of the other kind"
        )
    if config.data.name != choices.get("data", config.data.name):
        raise InputError(
            f"data.name={config.data.name} with data={choices['data']}: results would go by the "
            "name of another data set; leave it out"
        )
