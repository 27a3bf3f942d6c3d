"""What an evaluation has to know of a trained model: from its run, from its own record, or told."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from latentbench.config import plugins
from latentbench.config.evaluation import EvaluateConfig
from latentbench.config.plugins import CONF
from latentbench.errors import InputError
from latentbench.evaluation.loading import Home, root_of, speaking_of_a_benchmark
from latentbench.model.backbone import check_model
from latentbench.model.weights import metadata_of
from latentbench.noise.none import None_
from latentbench.records import Splits, Template
from latentbench.runtime.run_directory import RESULT

log = logging.getLogger(__name__)

KEY = "checkpoint"
GRADER = "exact_number"
BUDGET = 64


@dataclass(frozen=True)
class TrainedModel:
    """A trained model by name and habits; its weights are loaded apart from this.

    `latents` is how many slots it was trained with; `home` the data set it was trained on; `config`
    what its run recorded, in result.json or in the model directory, {} where no run of ours did.
    """

    method: str
    data: str
    model: str
    seed: int
    latents: int
    carrier: tuple[str, Any]
    template: Template
    home: Home
    noise: tuple[str, Any]
    budget: int
    temperature: float
    config: Mapping[str, Any]
    init: Mapping[str, Any]


def describe(config: EvaluateConfig, choices: Mapping[str, str]) -> TrainedModel:
    """What `_described` finds, where the records have the shape that a run gives them."""
    try:
        found = _described(config, choices)
        for name, kind in (("method", str), ("data", str), ("model", str), ("seed", int)):
            if not isinstance(getattr(found, name), kind):
                raise ValueError(f"its {name} is {getattr(found, name)!r}")
        for name, least in (("latents", 0), ("budget", 1)):
            if not isinstance(getattr(found, name), int) or getattr(found, name) < least:
                raise ValueError(f"its {name} is {getattr(found, name)!r}")
        if not isinstance(found.home.reward.marker, str | None):
            raise ValueError(f"its marker is {found.home.reward.marker!r}")
        return found
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{KEY}={config.checkpoint}: its record is not one that a run writes "
            f"({type(error).__name__}: {error}); take a whole copy of the run"
        ) from error


def _described(config: EvaluateConfig, choices: Mapping[str, str]) -> TrainedModel:
    """The checkpoint of an evaluation: options first, then its run, then `latentbench.json`.

    `choices` names the chosen carrier and noise. Raises InputError where there is no model, the
    number of latents is known from nowhere, or a record does not fit this version.
    """
    where = f"{KEY}={config.checkpoint}"
    result = _result(config.checkpoint)
    metadata = metadata_of(config.checkpoint, config.revision, KEY)
    _check_same_run(result, metadata, where)
    recorded: Mapping[str, Any] = result.get("config") or metadata.get("config", {})
    check_model(config.checkpoint, KEY)
    latents = config.latents if config.latents is not None else metadata.get("latents")
    if not isinstance(latents, int):
        raise InputError(
            f"{where}: does not say how many latent slots it was trained with; set "
            "latents=<number> (0 for a model that writes its steps)"
        )
    template = _made(Template, metadata.get("template", {}), where)
    if recorded:
        home = _home(recorded, config, where)
    else:
        reward = _plugin("reward", GRADER, where)(marker=metadata.get("marker") or "#")
        home = Home(metadata.get("data"), None, None, reward, GRADER)
        known = home.name or "a data set that it does not name"
        log.info("not compared with its training questions: %s was trained on %s", where, known)
    if config.marker is not None:
        home = replace(home, reward=_marked(home.reward, config.marker))
    own = {name: value for name, value in asdict(config.template).items() if value is not None}
    noise = (choices.get("noise", "none"), config.noise)
    if config.noise is None:
        noise = ("none", None_())
        if recorded:
            noise = (recorded["choices"]["noise"], _rebuilt("noise", recorded, where))
    answer, names = recorded.get("answer", {}), config.names
    name = Path(config.checkpoint).name
    return TrainedModel(
        method=names.method or result.get("method") or metadata.get("method") or name,
        data=names.data or result.get("data") or metadata.get("data") or "unknown",
        model=names.model or result.get("model") or metadata.get("model") or name,
        seed=_first(names.seed, result.get("seed"), metadata.get("seed"), 0),
        latents=latents,
        carrier=_carrier(config, choices, recorded, metadata, where),
        template=replace(template, **own),
        home=home,
        noise=noise,
        budget=_first(config.answer.budget, answer.get("budget"), metadata.get("budget"), BUDGET),
        temperature=_first(config.answer.temperature, answer.get("temperature"), 1.0),
        config=recorded,
        init=result.get("init", {}),
    )


def _well_formed(result: Mapping[str, Any]) -> bool:
    """Whether a record has the kinds of values that a run gives it."""
    kinds = {"method": str, "data": str, "model": str, "seed": int, "init": dict, "config": dict}
    return all(isinstance(result.get(name, kind()), kind) for name, kind in kinds.items())


def _check_same_run(result: Mapping[str, Any], model: Mapping[str, Any], where: str) -> None:
    """Refuse a run directory with the model of another run in it."""
    if result and model.get("run_id") != result.get("run_id"):
        raise InputError(
            f"{where}: its model is that of run {model.get('run_id')}, its {RESULT} that of run "
            f"{result.get('run_id')}; take a whole copy of one run"
        )


def _result(checkpoint: str) -> Mapping[str, Any]:
    """result.json of a completed training run; {} where the checkpoint is no run directory."""
    file = Path(checkpoint).expanduser() / RESULT
    if not file.is_file():
        return {}
    try:
        result = json.loads(file.read_text())
        if not isinstance(result, dict) or not _well_formed(result):
            raise ValueError
    except (OSError, ValueError):
        raise InputError(
            f"{KEY}={checkpoint}: its {RESULT} cannot be read; take a whole copy of the run, or "
            "its model directory"
        ) from None
    if result.get("status") != "completed" or not (file.parent / "model").is_dir():
        state = result.get("status") if result.get("status") != "completed" else "without a model"
        raise InputError(
            f"{KEY}={checkpoint}: that run is {state}; take a completed training run or a model "
            "directory"
        )
    return result


def _home(recorded: Mapping[str, Any], config: EvaluateConfig, where: str) -> Home:
    """The data set of a run; without its files where they are out of reach and not asked for."""
    reward, grader = _rebuilt("reward", recorded, where), recorded["choices"]["reward"]
    kind = _plugin("data", recorded["choices"]["data"], where)
    values, name = dict(recorded["data"]), recorded["data"]["name"]
    asked = config.eval.get(name)
    if asked is not None:
        values |= root_of(name, kind, asked, values.get("root"))
    splits: Splits | None = None
    try:
        with speaking_of_a_benchmark(name, kind):
            splits = _made(kind, values, where).load()
    except InputError as error:
        if asked is not None:
            raise
        log.info("not compared with the training questions of %s: %s", name, error)
    return Home(name, splits, values.get("root"), reward, grader)


def _carrier(
    config: EvaluateConfig,
    choices: Mapping[str, str],
    recorded: Mapping[str, Any],
    metadata: Mapping[str, Any],
    where: str,
) -> tuple[str, Any]:
    if config.carrier is not None:
        return choices["carrier"], config.carrier
    if recorded:
        return recorded["choices"]["carrier"], _rebuilt("carrier", recorded, where)
    name = metadata.get("carrier", "hidden")
    settings = metadata.get("carrier_settings", {})
    return name, _made(_plugin("carrier", name, where), settings, where)


def _rebuilt(kind: str, recorded: Mapping[str, Any], where: str) -> Any:
    """A plug-in of a run, from the name and the values that the run recorded."""
    return _made(_plugin(kind, recorded["choices"][kind], where), recorded[kind], where)


def _made(cls: Any, values: Mapping[str, Any], where: str) -> Any:
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(
            f"{where}: recorded {cls.__name__}.{unknown[0]}, which this version does not have; "
            "evaluate it with the version that made it"
        )
    return plugins.built(cls, values, f"{where}: recorded {cls.__name__}")


def _plugin(kind: str, option: str, where: str) -> Any:
    found = plugins.plugin_of(CONF, kind, option)
    if found is None:
        known = ", ".join(plugins.plugin_names(kind))
        raise InputError(f"{where}: {kind}={option} is not one of {known}")
    return found


def _marked(reward: Any, marker: str) -> Any:
    if reward.marker is None:
        raise InputError(f"marker={marker}: {type(reward).__name__} reads no marker; leave it out")
    return replace(reward, marker=marker)


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
