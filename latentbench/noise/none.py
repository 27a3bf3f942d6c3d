"""No latent noise: the latent phase is a deterministic function of the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latentbench.keys import Key
from latentbench.noise import Gains
from latentbench.records import NoiseRecord


@dataclass(frozen=True)
class None_:
    @property
    def diverges(self) -> str:
        return "answer"

    def draw(self, keys: Sequence[Key], sites: Mapping[str, int], latents: int) -> NoiseRecord:
        return NoiseRecord()

    def gains(self, record: NoiseRecord, step: int) -> Gains:
        return {}
