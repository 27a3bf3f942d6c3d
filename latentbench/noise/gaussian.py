"""Gaussian noise on the thoughts: e + s * eps, eps ~ N(0, I), drawn anew for every slot.

With `relative` s is `scale` times the root mean square of the thought, so that one scale suits
carriers of any norm; otherwise it is `scale` itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from latentbench.errors import InputError
from latentbench.keys import Key
from latentbench.noise import Effects, NoiseSource, Site
from latentbench.records import NoiseRecord


@dataclass(frozen=True)
class Gaussian(NoiseSource):
    scale: float = 0.1
    relative: bool = True

    acts_on: ClassVar[tuple[str, ...]] = ("thought",)
    strength: ClassVar[str | None] = "scale"

    def __post_init__(self) -> None:
        if not 0 <= self.scale < float("inf"):
            raise InputError(f"noise.scale={self.scale}: must be at least 0, for example 0.1")

    @property
    def diverges(self) -> str:
        return "latent" if self.scale > 0 else "answer"

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        if self.scale == 0:
            return NoiseRecord()
        shape = (latents, sites["thought"].width)
        draws = [key.generator().standard_normal(shape, dtype=np.float32) for key in keys]
        return NoiseRecord({"thought": torch.from_numpy(np.stack(draws))})

    def effects(self, record: NoiseRecord, step: int) -> Effects:
        if step < 1 or self.scale == 0:
            return {}

        def disturb(hidden: torch.Tensor, thought: torch.Tensor) -> torch.Tensor:
            scale: float | torch.Tensor = self.scale
            if self.relative:
                scale = scale * thought.square().mean(dim=-1, keepdim=True).sqrt()
            return thought + scale * record.tensors["thought"][:, step - 1].to(thought.dtype)

        return {"thought": disturb}
