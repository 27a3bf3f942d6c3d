"""Noise on the value projections, the common part of the weight family: one draw for each rollout
and layer, held over prompt and latents; answers are written with the clean weights.

A row's disturbance is added to the layer's output, x W + x D for its own D: exogenous to the
parameters, and the same in rollout and replay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch

from latentbench.errors import InputError
from latentbench.keys import Key
from latentbench.noise import (
    Effect,
    Effects,
    NoiseSource,
    Site,
    acts_at,
    check_scope,
    first_phase,
    kind_of,
)
from latentbench.records import NoiseRecord


class ValueNoise(NoiseSource):
    """Knobs of the family: `scale` of the noise, and `scope`, the phases it acts in."""

    scale: float
    scope: str

    acts_on: ClassVar[tuple[str, ...]] = ()  # every model has value projections
    strength: ClassVar[str | None] = "scale"

    def check(self) -> None:
        """Raises InputError for knobs out of range."""
        if not 0 <= self.scale < float("inf"):
            raise InputError(f"noise.scale={self.scale}: must be at least 0, for example 0.1")
        check_scope(self.scope)

    @property
    def diverges(self) -> str:
        if self.scale == 0:
            return "answer"
        return first_phase(self.scope)

    def effects(self, record: NoiseRecord, step: int) -> Effects:
        """The disturbances of the layers in the phases of `scope`."""
        acts = acts_at(self.scope, step) and self.scale > 0
        return self.disturbances(record) if acts else {}

    def disturbances(self, record: NoiseRecord) -> Mapping[str, Effect]:
        """An effect for each layer's value projection."""
        raise NotImplementedError


def value_weights(sites: Mapping[str, Site]) -> dict[str, torch.Tensor]:
    """The weight [input, output] of every value projection, by site."""
    found = {}
    for name, site in sites.items():
        if kind_of(name) == "value":
            assert site.weight is not None, "value projections have a weight"
            found[name] = site.weight
    return found


def normal_draws(
    keys: Sequence[Key], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, torch.Tensor]:
    """Standard normal numbers [row, *shape] for each layer; a row's come from its own key."""
    generators = [key.generator() for key in keys]
    return {
        layer: torch.from_numpy(
            np.stack([g.standard_normal(shape, dtype=np.float32) for g in generators])
        )
        for layer, shape in shapes.items()
    }
