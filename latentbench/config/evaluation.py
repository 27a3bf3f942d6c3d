"""The typed configuration of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from latentbench.config.sections import BenchmarkConfig, DeviceConfig, ProtocolConfig


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
    eval: dict[str, BenchmarkConfig] = field(default_factory=dict)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    answer: AnswerOptions = field(default_factory=AnswerOptions)
    trainer: DeviceConfig = field(default_factory=DeviceConfig)
