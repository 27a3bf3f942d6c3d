"""The evaluation's command line: `python -m latentbench.evaluate checkpoint=<where> eval=[...]`.

Composed from conf/evaluate.yaml with the groups of run.py. Composition imports neither lightning
nor transformers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from latentbench import cli, schema
from latentbench.errors import InputError
from latentbench.runtime.deferred import settle


@dataclass
class TemplateOptions:
    """What follows a question and a step, and what leads the answer in; null: as trained."""

    question_end: str | None = None
    step_end: str | None = None
    answer_start: str | None = None


@dataclass
class NameOptions:
    """The checkpoint's name in tables; null: as recorded."""

    method: str | None = None
    data: str | None = None
    model: str | None = None
    seed: int | None = None


@dataclass
class AnswerOptions:
    """At most `budget` tokens; `temperature` of the rollouts in latents.parquet. Null: as trained,
    else 64 and 1."""

    budget: int | None = None
    temperature: float | None = None


@dataclass
class MaskOptions:
    """The rate of mask noises, where `noise.rate` is not set."""

    mask_rate: float = 0.2


@dataclass
class EvaluateConfig:
    """One evaluation. What is null is taken from the checkpoint's own record.

    `checkpoint` is a run directory, a Hugging Face directory or a hub id (with `revision`).
    `latents`, `carrier`, `template` and `marker` say how it thinks and answers. `noise` is what
    protocol.explore=latent|both draws.
    """

    checkpoint: str = MISSING
    revision: str | None = None
    latents: int | None = None
    carrier: Any = None
    template: TemplateOptions = field(default_factory=TemplateOptions)
    marker: str | None = None
    names: NameOptions = field(default_factory=NameOptions)
    noise: Any = None
    rl: MaskOptions = field(default_factory=MaskOptions)
    eval: dict[str, schema.BenchmarkConfig] = field(default_factory=dict)
    protocol: schema.ProtocolConfig = field(default_factory=schema.ProtocolConfig)
    answer: AnswerOptions = field(default_factory=AnswerOptions)
    trainer: schema.DeviceConfig = field(default_factory=schema.DeviceConfig)


def main() -> None:
    """`python -m latentbench.evaluate ...`: exit code 0 only when all items are answered."""
    ConfigStore.instance().store(name="base_evaluate", node=EvaluateConfig)
    cli.start("evaluate", job)


def job(composed: DictConfig) -> float | None:
    """One evaluation. Returns the first benchmark's pass@1 for sweepers."""
    return cli.attempt(composed, _carry_out)


def typed(composed: DictConfig) -> EvaluateConfig:
    """The composed configuration as typed objects, checked. Raises InputError."""
    if "checkpoint" not in composed or not composed.get("checkpoint", None):
        raise InputError(
            "checkpoint has no value; set checkpoint=<run directory, Hugging Face directory or hub "
            "id>"
        )
    config = schema.as_objects(composed)
    assert isinstance(config, EvaluateConfig)
    schema.check_protocol(config)
    schema.check_devices(config.trainer)
    least = {
        "latents": (config.latents, 0),
        "names.seed": (config.names.seed, 0),
        "answer.budget": (config.answer.budget, 1),
        "answer.temperature": (config.answer.temperature, 0),
    }
    for key, (value, smallest) in least.items():
        if value is not None and not value >= smallest:
            raise InputError(f"{key}={value}: must be at least {smallest}")
    return config


def _carry_out(composed: DictConfig, hydra_config: Any, choices: dict[str, str]) -> float | None:
    config = typed(composed)
    settle("torch")
    from latentbench.evaluation_run import check_inputs, evaluation_identity, run

    identity = evaluation_identity(config)
    return cli.in_directory(
        identity,
        composed,
        hydra_config,
        again=lambda directory: check_inputs(config, choices, directory),
        story=lambda directory: run(config, choices, directory, identity),
    )


if __name__ == "__main__":
    from latentbench.evaluate import main as main_of_the_module

    main_of_the_module()  # so that Hydra's schema is the class of the module, not of __main__
