"""Gumbel-softmax thoughts (LEPO, arXiv 2604.17892; official sampler): z = softmax((l + g) / tau)
over the filtered scores l, with g ~ Gumbel(0, 1) for every token type, slot and rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from latentbench.errors import InputError
from latentbench.filters import keep, keep_top_k, nucleus
from latentbench.keys import Key
from latentbench.noise import Effects, Site
from latentbench.records import NoiseRecord


@dataclass(frozen=True)
class Gumbel:
    """Knobs, with the official training values as defaults: the filter (`temperature`, then
    `top_k`, then `top_p`), the Gumbel temperature `tau` (0.3 or 0.5 there, by model), and `scale`
    of the noise. At scale 0, tau 1 and without a filter the thought is the carrier's own."""

    temperature: float = 1.0
    top_k: int = 30
    top_p: float = 0.95
    tau: float = 0.5
    scale: float = 1.0

    acts_on: ClassVar[tuple[str, ...]] = ("scores",)
    replayed: ClassVar[bool] = True
    strength: ClassVar[str] = "scale"

    def __post_init__(self) -> None:
        for name in ("temperature", "tau"):
            value = getattr(self, name)
            if not value > 0:
                raise InputError(f"noise.{name}={value}: a temperature is above 0, for example 1")
        if self.top_k < 1:
            raise InputError(f"noise.top_k={self.top_k}: must be at least 1, for example 30")
        if not 0 < self.top_p <= 1:
            raise InputError(f"noise.top_p={self.top_p}: must lie in (0, 1]; 1 keeps all")
        if self.scale < 0:
            raise InputError(f"noise.scale={self.scale}: must be at least 0; 0 is no noise")

    def check_vocabulary(self, size: int) -> None:
        """Refuse a top_k that there are not enough token types for. Raises InputError."""
        if self.top_k > size:
            raise InputError(
                f"noise.top_k={self.top_k}: this model can write {size} token types; choose at "
                "most that"
            )

    @property
    def diverges(self) -> str:
        return "latent" if self.scale > 0 else "answer"

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        if self.scale == 0:
            return NoiseRecord()
        shape = (latents, sites["scores"].width)
        draws = np.stack([key.generator().gumbel(size=shape).astype(np.float32) for key in keys])
        return NoiseRecord({"scores": torch.from_numpy(draws)})

    def effects(self, record: NoiseRecord, step: int) -> Effects:
        if step < 1:
            return {}

        def disturb(log_law: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            filtered = keep_top_k(scores / self.temperature, self.top_k)
            if self.top_p < 1:
                filtered = keep(filtered, nucleus(filtered, self.top_p))
            if self.scale > 0:
                filtered = filtered + self.scale * record.tensors["scores"][:, step - 1]
            return filtered / self.tau

        return {"scores": disturb}
