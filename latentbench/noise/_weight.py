"""Noise on the value projections, the common part of the weight family: one draw for each rollout
and layer, held over prompt and latents; answers are written with the clean weights.

A row's disturbance is added to the layer's output, x W + x D for its own D: exogenous to the
parameters, and the same in rollout and replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from latentbench.errors import InputError
from latentbench.noise import ANSWER, PROMPT, Effect, Effects
from latentbench.records import NoiseRecord

SCOPES = ("latent", "prompt+latent", "all")


class ValueNoise:
    """Knobs of the family: `scale` of the noise, and `scope`, the phases it acts in."""

    scale: float
    scope: str

    acts_on: ClassVar[tuple[str, ...]] = ()  # every model has value projections
    replayed: ClassVar[bool] = True
    strength: ClassVar[str] = "scale"

    def check(self) -> None:
        """Raises InputError for knobs out of range."""
        if not 0 <= self.scale < float("inf"):
            raise InputError(f"noise.scale={self.scale}: must be at least 0, for example 0.1")
        if self.scope not in SCOPES:
            raise InputError(f"noise.scope={self.scope}: choose one of {', '.join(SCOPES)}")

    @property
    def diverges(self) -> str:
        if self.scale == 0:
            return "answer"
        return "latent" if self.scope == "latent" else "prompt"

    def effects(self, record: NoiseRecord, step: int) -> Effects:
        """The disturbances of the layers in the phases of `scope`."""
        acts = {PROMPT: self.scope != "latent", ANSWER: self.scope == "all"}.get(step, True)
        return self.disturbances(record) if acts and self.scale > 0 else {}

    def disturbances(self, record: NoiseRecord) -> Mapping[str, Effect]:
        """An effect for each layer's value projection."""
        raise NotImplementedError
