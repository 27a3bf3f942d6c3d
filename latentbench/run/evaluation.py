"""The story of an evaluation: checkpoint -> benchmarks -> answers -> record."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import latentbench
from latentbench.analysis.metrics import summary_metrics  # pyright: ignore
from latentbench.analysis.run_table import render  # pyright: ignore
from latentbench.config.evaluation import EvaluateConfig
from latentbench.config.plugins import packages_of
from latentbench.config.sections import AnswerConfig, ModelConfig
from latentbench.errors import InputError
from latentbench.evaluation.benchmark import Benchmark
from latentbench.evaluation.interventions import steps_under
from latentbench.evaluation.loading import load_benchmark
from latentbench.evaluation.stage import (
    benchmarks_record,
    check_protocol_fits,
    evaluate,
    forget_parts,
    protocol_identity,
    questions_of,
    second_opinions,
)
from latentbench.model.backbone import Backbone, Outline, load, outline
from latentbench.model.layout import Layout
from latentbench.model.policy import Policy
from latentbench.model.tokenizer import tokenizer_digest
from latentbench.model.weights import metadata_of, weights_digest
from latentbench.run.preflight import check_benchmark_lengths
from latentbench.run.trained_model import KEY, TrainedModel, describe
from latentbench.runtime.clock import Clock
from latentbench.runtime.device import check_device, device_of, limit_threads, resolved
from latentbench.runtime.provenance import digest, provenance
from latentbench.runtime.run_directory import ITEMS, LATENTS, QUESTIONS, RunDirectory, hashable

log = logging.getLogger(__name__)


def evaluation_identity(config: EvaluateConfig) -> str:
    """A hash of what an evaluation computes: the checkpoint by its content, all options that count.

    Raises InputError for a checkpoint that is not there.
    """
    values = hashable(asdict(config))
    for name in ("checkpoint", "revision", "trainer"):
        del values[name]
    metadata = metadata_of(config.checkpoint, config.revision, KEY)
    weights = weights_digest(config.checkpoint, config.revision, KEY)
    parts = [type(part).__name__ for part in (config.carrier, config.noise)]
    return digest([latentbench.__version__, "evaluation", values, parts, metadata, weights])


def asked(config: EvaluateConfig) -> dict[str, Any]:
    """What of an evaluation's configuration its record has, too."""
    return {"protocol": asdict(config.protocol), "eval": hashable(asdict(config))["eval"]}


@dataclass(frozen=True)
class Asked:
    """What an evaluation asks, before the weights are loaded; `inputs` identifies its content."""

    outlined: Outline
    layout: Layout
    benchmarks: list[Benchmark]
    inputs: str


def gather(config: EvaluateConfig, checkpoint: TrainedModel) -> Asked:
    """Load the benchmarks as this checkpoint's prompts. Raises InputError."""
    outlined = outline(ModelConfig(), config.checkpoint, config.revision, KEY)
    latent = checkpoint.latents > 0
    layout = Layout(outlined.tokenizer, outlined.markers, checkpoint.template, latent)
    benchmarks = [
        load_benchmark(name, chosen, checkpoint.home, config.protocol.split, None, layout)
        for name, chosen in config.eval.items()
    ]
    items = [[prompt.uid, prompt.gold] for one in benchmarks for prompt in one.prompts]
    inputs = digest([tokenizer_digest(outlined.tokenizer), items])
    return Asked(outlined, layout, benchmarks, inputs)


def check_inputs(
    config: EvaluateConfig, choices: Mapping[str, str], directory: RunDirectory
) -> None:
    """Before a completed evaluation is shown again: refuse when it was of something else."""
    directory.check_inputs(lambda: gather(config, describe(config, choices)).inputs)


def run(
    config: EvaluateConfig, choices: Mapping[str, str], directory: RunDirectory, identity: str
) -> dict[str, Any]:
    """Carry out an evaluation inside its claimed directory and return its result.

    Raises InputError for bad input before any answer; what goes wrong later is recorded.
    """
    clock = Clock(dict(directory.result.get("timing", {})))  # an earlier attempt counts
    inputs = directory.result.get("inputs")
    checkpoint = describe(config, choices)
    directory.result.clear()
    directory.record(
        status="running",
        run_id=identity,
        stage="final",
        inputs=inputs,
        protocol_id=None,
        method=checkpoint.method,
        data=checkpoint.data,
        model=checkpoint.model,
        seed=checkpoint.seed,
        config=_recorded(config, checkpoint),
        init=dict(checkpoint.init),
        checkpoint={
            "source": config.checkpoint,
            "revision": config.revision,
            "weights": weights_digest(config.checkpoint, config.revision, KEY),
        },
        provenance=provenance(packages_of(_parts(checkpoint, config))),
        timing={},
        metrics={},
    )
    with directory.recording_failure(clock.seconds):
        _story(config, checkpoint, directory, clock)
    return directory.result


def _parts(checkpoint: TrainedModel, config: EvaluateConfig) -> list[tuple[str, str]]:
    """The plug-ins that an evaluation uses, as (kind, name)."""
    own = [("carrier", checkpoint.carrier[0]), ("noise", checkpoint.noise[0])]
    return [*own, ("reward", checkpoint.home.grader), *(("data", name) for name in config.eval)]


def _story(
    config: EvaluateConfig, checkpoint: TrainedModel, directory: RunDirectory, clock: Clock
) -> None:
    check_device(config.trainer)
    trainer = resolved(config.trainer)
    limit_threads(trainer.threads)
    protocol, answer = config.protocol, AnswerConfig(checkpoint.temperature, checkpoint.budget)
    with clock.phase("data"):
        asked = gather(config, checkpoint)
        layout, benchmarks = asked.layout, asked.benchmarks
        _check(config, checkpoint, benchmarks, layout, asked.outlined)
        directory.refuse_other_inputs(asked.inputs)
        directory.record(inputs=asked.inputs, benchmarks=benchmarks_record(benchmarks))
    with clock.phase("load"):
        carrier = checkpoint.carrier[1]
        backbone = load(
            config.checkpoint, config.revision, ModelConfig(), layout.latent, carrier, KEY
        )
    identity = protocol_identity(protocol, answer.budget, checkpoint.latents, benchmarks)
    directory.record(protocol_id=identity)
    directory.write_frame(QUESTIONS, questions_of(benchmarks))
    if trainer.devices == 1:
        backbone.model.to(device_of(trainer.accelerator))
    policy = _policy(checkpoint, backbone)
    with clock.phase("evaluate_final"):
        items, thoughts = evaluate(
            policy, layout, benchmarks, protocol, answer, trainer, "final", directory.path
        )
    directory.write_frame(ITEMS, items)
    directory.write_frame(LATENTS, thoughts)
    opinions = second_opinions(items, benchmarks, protocol.second_opinion, checkpoint.home)
    metrics = summary_metrics(items, protocol.ks) | opinions
    first = f"{benchmarks[0].name}/pass@1"
    directory.record(
        status="completed",
        files=directory.digests(ITEMS, LATENTS, QUESTIONS),
        metrics=metrics,
        objective=metrics[first],
        timing=clock.seconds,
    )
    forget_parts(directory.path)
    render(directory.path, None)


def _check(
    config: EvaluateConfig,
    checkpoint: TrainedModel,
    benchmarks: Sequence[Benchmark],
    layout: Layout,
    outlined: Outline,
) -> None:
    protocol = config.protocol
    where = f"{KEY}={config.checkpoint}"
    check_protocol_fits(protocol, checkpoint.latents, benchmarks, where)
    if protocol.explore != "answer" and checkpoint.noise[1].diverges == "answer":
        raise InputError(
            f"protocol.explore={protocol.explore}: {where} has no latent noise of its own; choose "
            "one, e.g. noise=shared_mask"
        )
    latents = steps_under(protocol, checkpoint.latents)
    check_benchmark_lengths(benchmarks, layout, latents, checkpoint.budget, outlined.positions)


def _policy(checkpoint: TrainedModel, backbone: Backbone) -> Policy:
    return Policy(
        model=backbone.model,
        carrier=checkpoint.carrier[1],
        noise=checkpoint.noise[1],
        latents=checkpoint.latents,
        eos=backbone.markers.eos,
        forbidden=backbone.forbidden,
        latent=backbone.markers.latent,
        ends=backbone.ends,
    )


def _recorded(config: EvaluateConfig, checkpoint: TrainedModel) -> dict[str, Any]:
    """The config of the result: that of the training run, with what this evaluation changes."""
    (carrier, carrier_part), (noise, noise_part) = checkpoint.carrier, checkpoint.noise
    before = dict(checkpoint.config)
    choices = dict(before.get("choices", {})) | {"carrier": carrier, "noise": noise}
    choices["reward"] = checkpoint.home.grader
    return before | {
        "method": checkpoint.method,
        "seed": checkpoint.seed,
        "latents": checkpoint.latents,
        "carrier": asdict(carrier_part),
        "noise": asdict(noise_part),
        "reward": asdict(checkpoint.home.reward),
        "template": asdict(checkpoint.template),
        "eval": {name: asdict(chosen) for name, chosen in config.eval.items()},
        "protocol": asdict(config.protocol),
        "answer": {"budget": checkpoint.budget, "temperature": checkpoint.temperature},
        "choices": choices,
    }
