"""Gumbel-softmax thoughts (LEPO, arXiv 2604.17892; official sampler): z = softmax((l + g) / tau)
over the filtered scores l, with g ~ Gumbel(0, 1) for every token type, slot and rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from latentbench.errors import InputError
from latentbench.filters import keep, keep_top_k, nucleus
from latentbench.keys import Key
from latentbench.noise import Effects, Site
from latentbench.noise._scores import ScoreNoise
from latentbench.records import NoiseRecord


@dataclass(frozen=True)
class Gumbel(ScoreNoise):
    """Knobs, with the official training values as defaults: the filter (`temperature`, then
    `top_k`, then `top_p`), the Gumbel temperature `tau` (0.3 or 0.5 there, by model), and `scale`
    of the noise. At scale 0, tau 1 and without a filter the thought is the carrier's own."""

    temperature: float = 1.0
    top_k: int = 30
    top_p: float = 0.95
    tau: float = 0.5
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("temperature", "tau"):
            value = getattr(self, name)
            if not value > 0:
                raise InputError(f"noise.{name}={value}: a temperature is above 0, for example 1")
        self.check("top_k")

    def check_vocabulary(self, size: int) -> None:
        """Refuse a top_k that there are not enough token types for. Raises InputError."""
        self.check_size("top_k", size)

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        if self.scale == 0:
            return NoiseRecord()
        draws = self.gumbels(keys, sites["scores"], latents)
        return NoiseRecord({"scores": torch.from_numpy(draws.astype(np.float32))})

    def effects(self, record: NoiseRecord, step: int) -> Effects:
        if step < 1:
            return {}

        def disturb(log_law: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            filtered = keep_top_k(scores / self.temperature, self.top_k)
            filtered = keep(filtered, nucleus(filtered, self.top_p))
            if self.scale > 0:
                filtered = filtered + self.scale * record.tensors["scores"][:, step - 1]
            return filtered / self.tau

        return {"scores": disturb}
