"""No latent noise: the latent phase is a deterministic function of the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from latentbench.keys import Key
from latentbench.noise import Effects, NoiseSource, Site
from latentbench.records import NoiseRecord


@dataclass(frozen=True)
class None_(NoiseSource):
    acts_on: ClassVar[tuple[str, ...]] = ()

    @property
    def diverges(self) -> str:
        return "answer"

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        return NoiseRecord()

    def effects(self, record: NoiseRecord, step: int) -> Effects:
        return {}
