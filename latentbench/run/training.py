"""The whole story of a run: data -> init -> evaluate -> RL -> evaluate -> record."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd
from lightning.pytorch.loggers import Logger

import latentbench
from latentbench.analysis.metrics import summary_metrics  # pyright: ignore
from latentbench.analysis.remarks import remarks  # pyright: ignore
from latentbench.analysis.run_table import render  # pyright: ignore
from latentbench.config.compatibility import check_vocabulary
from latentbench.config.plugins import CONF, plugin_packages
from latentbench.config.ports import NATIVE, label, replaced
from latentbench.config.sections import Config, TrainerConfig, slots_of
from latentbench.evaluation.benchmark import Benchmark
from latentbench.evaluation.stage import (
    benchmarks_record,
    check_protocol_fits,
    evaluate,
    forget_parts,
    protocol_identity,
    questions_of,
    second_opinions,
)
from latentbench.model.backbone import Backbone, save, set_dropout
from latentbench.model.policy import Policy
from latentbench.noise.none import None_
from latentbench.run.init_store import (
    Init,
    copy_training_record,
    ensure,
    hashable_values,
    latents_at_test,
    metadata_of,
    origin,
    policy_of,
    stage_lengths,
)
from latentbench.run.preflight import (
    Start,
    benchmarks_of,
    check_golds,
    check_lengths,
    check_surroundings,
    gather,
)
from latentbench.runtime.clock import Clock
from latentbench.runtime.device import device_of, limit_threads, resolved
from latentbench.runtime.loggers import replay_curves, started_loggers
from latentbench.runtime.metrics_csv import last_step
from latentbench.runtime.parts import weights_fingerprint
from latentbench.runtime.provenance import digest, provenance
from latentbench.runtime.run_directory import (
    ITEMS,
    LATENTS,
    METRICS,
    QUESTIONS,
    RunDirectory,
    hashable,
    plain,
)
from latentbench.training.data import ENDLESS, Stages, TrainingData
from latentbench.training.fitting import fit
from latentbench.training.rl import RlModule
from latentbench.training.sft import SftModule
from latentbench.training.update import Objective

log = logging.getLogger(__name__)


@dataclass
class Findings:
    """What evaluation saw, stage by stage: rows of items.parquet and of latents.parquet."""

    items: list[pd.DataFrame] = field(default_factory=list)
    thoughts: list[pd.DataFrame] = field(default_factory=list)

    def add(self, items: pd.DataFrame, thoughts: pd.DataFrame) -> None:
        self.items.append(items)
        self.thoughts.append(thoughts)


# Groups that only set values, which are hashed themselves as far as they matter.
UNHASHED_CHOICES = ("logger", "trainer", "hydra", "debug", "experiment")


def run_identity(config: Config, choices: Mapping[str, str]) -> str:
    """A hash of the resolved configuration without paths, logging, device and memory.

    What lies behind the paths is compared by content: see `inputs` in result.json.
    """
    values = hashable_values(config)
    relevant = {k: v for k, v in choices.items() if k not in UNHASHED_CHOICES}
    relevant |= {f"package {k}": v for k, v in plugin_packages(config).items()}
    return digest([latentbench.__version__, values, relevant, config.init.path is not None])


def asked(config: Config, choices: Mapping[str, str]) -> dict[str, Any]:
    """The configuration of a run as its record has it, as far as it says what is computed."""
    return hashable(plain(config)) | {"choices": dict(choices)}


def check_inputs(config: Config, choices: Mapping[str, str], directory: RunDirectory) -> None:
    """Before a completed run is shown again: refuse when it was made from something else."""

    def todays() -> str:
        start = gather(config, choices)
        return start.inputs_with(benchmarks_of(config, start))

    directory.check_inputs(todays)


def run(
    config: Config, choices: Mapping[str, str], directory: RunDirectory, identity: str
) -> dict[str, Any]:
    """Carry out a run inside its claimed directory and return its result.

    Raises InputError for bad input before any training; what goes wrong later is recorded as
    `failed` (or `preempted`) and raised.
    """
    clock = Clock(dict(directory.result.get("timing", {})))  # an earlier attempt counts
    inputs = directory.result.get("inputs")
    # A run that is carried on is one run in W&B, too.
    shown = {k: v for k, v in directory.result.items() if k == "wandb_id"}
    parts = {kind: getattr(config, kind) for kind in NATIVE}
    port = replaced(CONF, config.method, parts, origin(config))
    directory.result.clear()
    directory.record(
        status="running",
        run_id=identity,
        inputs=inputs,
        protocol_id=None,
        method=label(config.method, port),
        port=port,
        data=config.data.name,
        model=config.model.name,
        seed=config.seed,
        config=plain(config) | {"choices": dict(choices)},
        init={},
        provenance=provenance(plugin_packages(config)),
        timing={},
        metrics={},
        **shown,
    )
    with directory.recording_failure(clock.seconds):
        _story(config, choices, directory, clock)
    return directory.result


def _story(
    config: Config, choices: Mapping[str, str], directory: RunDirectory, clock: Clock
) -> None:
    limit_threads(config.trainer.threads)
    with clock.phase("data"):
        ready = prepared(config, choices)
        directory.refuse_other_inputs(ready.inputs)
        directory.record(inputs=ready.inputs, benchmarks=benchmarks_record(ready.benchmarks))
    config = ready.config
    with clock.phase("init"):
        init = ensure(config, choices, ready.start.data, ready.start.outlined)
    _place(init.backbone.model, config.trainer)
    _record_start(config, ready, init, directory)
    policy = policy_of(config, init.backbone, config.noise)
    findings = Findings()
    with started_loggers(config, directory) as loggers:
        if config.algorithm == "sft":
            _evaluate("final", policy, ready, directory, findings, clock)
            copy_training_record(init, directory.path)
            replay_curves(directory.path / METRICS, loggers)
            extra: dict[str, float] = {}
        else:
            _evaluate("init", policy, ready, directory, findings, clock)
            train = _reinforce if config.algorithm == "grpo" else _continue
            with clock.phase("rl"):
                extra = train(config, policy, ready.start, directory, loggers)
            _evaluate("final", policy, ready, directory, findings, clock)
        items = pd.concat(findings.items, ignore_index=True)
        second = config.protocol.second_opinion
        extra |= second_opinions(items, ready.benchmarks, second, ready.start.home)
        metrics = _finish(config, directory, init.backbone, findings, extra, clock)
        for logger in loggers:
            logger.log_metrics(metrics, step=last_step(directory.path / METRICS))
    render(directory.path, None)


# -- the parts of the story ----------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """A run that nothing speaks against: its configuration for the device that is here, its data
    and token layout, its benchmarks as prompts, and a hash of all that it is made from."""

    config: Config
    start: Start
    benchmarks: list[Benchmark]
    inputs: str


def prepared(config: Config, choices: Mapping[str, str]) -> Ready:
    """Load the data, and refuse all that cannot work. Trains and writes nothing.

    Raises InputError.
    """
    check_surroundings(config)
    config = replace(config, trainer=resolved(config.trainer))
    start = gather(config, choices)
    data, layout = start.data, start.layout
    log.info(
        "data: %s, %d training, %d validation and %d test problems",
        config.data.name,
        len(data.train),
        len(data.validation),
        len(data.test),
    )
    check_vocabulary({"carrier": config.carrier, "noise": config.noise}, start.outlined.writable)
    check_golds(config, data)
    benchmarks = benchmarks_of(config, start)
    check_protocol_fits(
        config.protocol, latents_at_test(config), benchmarks, f"method={config.method}"
    )
    check_lengths(config, data, benchmarks, layout, start.outlined.positions)
    return Ready(config, start, benchmarks, start.inputs_with(benchmarks))


def _record_start(config: Config, ready: Ready, init: Init, directory: RunDirectory) -> None:
    """What is known before the first evaluation: the protocol, the start model, the questions."""
    provenance = directory.result["provenance"] | {"data": dict(ready.start.data.provenance)}
    directory.record(
        protocol_id=protocol_identity(
            config.protocol, config.answer.budget, latents_at_test(config), ready.benchmarks
        ),
        init={"id": init.id, "origin": init.origin, "directory": _name(init)} | _brief(init),
        provenance=provenance,
    )
    directory.write_frame(QUESTIONS, questions_of(ready.benchmarks))


def _evaluate(
    stage: str,
    policy: Policy,
    ready: Ready,
    directory: RunDirectory,
    findings: Findings,
    clock: Clock,
) -> None:
    """Every benchmark under the protocol; what is seen is added to `findings`."""
    config = ready.config
    with clock.phase(f"evaluate_{stage}"):
        findings.add(
            *evaluate(
                policy,
                ready.start.layout,
                ready.benchmarks,
                config.protocol,
                config.answer,
                config.trainer,
                stage,
                directory.path,
            )
        )


def _finish(
    config: Config,
    directory: RunDirectory,
    backbone: Backbone,
    findings: Findings,
    extra: Mapping[str, float],
    clock: Clock,
) -> dict[str, float]:
    items = pd.concat(findings.items, ignore_index=True)
    directory.write_frame(ITEMS, items)
    directory.write_frame(LATENTS, pd.concat(findings.thoughts, ignore_index=True))
    metrics = summary_metrics(items, config.protocol.ks) | dict(extra)
    recorded = directory.result["config"]
    metadata = metadata_of(config) | {
        "run_id": directory.result["run_id"],
        "method": directory.result["method"],
        "data": config.data.name,
        "model": config.model.name,
        "seed": config.seed,
        "template": asdict(config.data.template),
        "marker": config.reward.marker,
        "budget": config.answer.budget,
        "config": hashable(recorded) | {"choices": recorded["choices"]},
    }
    save(backbone, directory.path / "model", metadata, model_card(directory.result, metrics))
    first = f"{next(iter(config.eval))}/pass@1"
    directory.record(
        status="completed",
        files=directory.digests(ITEMS, LATENTS, QUESTIONS),
        metrics=metrics,
        objective=metrics[first],
        timing=clock.seconds,
        remarks=remarks(items, metrics, directory.result["init"].get("stages", ())),
    )
    forget_parts(directory.path)
    return metrics


def _reinforce(
    config: Config,
    policy: Policy,
    start: Start,
    directory: RunDirectory,
    loggers: list[Logger],
) -> dict[str, float]:
    """Group-relative RL on the training problems."""
    owner = _owner(policy, directory)
    rl, data, layout = config.rl, start.data, start.layout
    feed = TrainingData(data.train, rl.prompts * rl.over_provision, rl.updates, config.seed)
    reference = None
    if rl.kl > 0:
        reference = replace(policy, model=copy.deepcopy(policy.model).requires_grad_(False))
    module = RlModule(
        policy,
        reference,
        layout,
        Objective(
            config.reward,
            config.advantage,
            tuple(config.transform.values()),
            config.policy_loss,
            config.latent_loss,
        ),
        rl,
        config.answer,
        layout.prompts(list(data.validation)[: rl.validation_items]),
        config.seed,
    )
    fit(module, feed, config.trainer, directory.path, f"RL {config.method}", loggers, owner)
    if module.silent_updates:
        log.warning(
            "%d of %d updates had no group with two different rewards: their gradient is exactly 0",
            module.silent_updates,
            rl.updates,
        )
    _place(policy.model, config.trainer)
    return {
        "train/silent_updates": float(module.silent_updates),
        "train/skipped_updates": float(module.skipped_updates),
        "train/mixed_groups": float(module.mixed_groups),
        "train/updates": float(rl.updates),
    }


def _continue(
    config: Config,
    policy: Policy,
    start: Start,
    directory: RunDirectory,
    loggers: list[Logger],
) -> dict[str, float]:
    """The last SFT stage carried on, for as many updates (or seconds) as RL would have."""
    owner = _owner(policy, directory)
    updates = config.rl.updates if config.rl.seconds is None else ENDLESS
    trained = [stage for stage, length in enumerate(stage_lengths(config)) if length > 0]
    feed = TrainingData(start.data.train, config.sft.batch_size, updates, config.seed)
    module = SftModule(
        policy.under(None_()),
        start.layout,
        config.curriculum,
        slots_of(config),
        Stages((0,) * trained[-1] + (updates,), "updates", feed.updates_per_epoch),
        config.sft_loss,
        config.sft,
        config.seed,
        config.rl.trainable,
        config.rl.seconds,
    )
    fit(module, feed, config.trainer, directory.path, f"SFT {config.method}", loggers, owner)
    set_dropout(policy.model, 0.0)
    policy.model.eval()
    _place(policy.model, config.trainer)
    return {"train/updates": float(module.update)}


def _owner(policy: Policy, directory: RunDirectory) -> dict[str, str]:
    """Whose checkpoints a run's are: its own, from this start model, on these data."""
    result = directory.result
    return {
        "run": result["run_id"],
        "seed": str(result["seed"]),
        "inputs": result["inputs"],
        "start model": weights_fingerprint(policy.model),
    }


def _place(model: Any, trainer: TrainerConfig) -> None:
    model.to(device_of(trainer.accelerator))


def _name(init: Init) -> str | None:
    return init.directory.name if init.directory else None


def _brief(init: Init) -> dict[str, Any]:
    return {
        k: init.record[k]
        for k in ("seconds", "updates", "final_loss", "stages")
        if k in init.record
    }


def model_card(result: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """The README of the model directory: what it is, how it was made, what it scores."""
    head = (
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n"
        f"# {result['method']} on {result['data']} ({result['model']}, seed {result['seed']})\n\n"
        f"Trained by latentbench {result['provenance']['version']}, run `{result['run_id']}`, "
        f"protocol `{result['protocol_id']}`.\n\n"
    )
    rows = [f"| {name} | {value:.4f} |" for name, value in sorted(metrics.items())]
    return head + "\n".join(["| metric | value |", "| --- | --- |", *rows]) + "\n"
