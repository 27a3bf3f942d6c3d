"""Singular-value perturbation of the value projections (SVP): W = U S V^T becomes
U S (1 + a * eps) V^T, eps ~ N(0, I), one draw for each rollout and layer.

U, S and V are those of the weights at the time of the draw and stay in the record, so that the
disturbance does not move with the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from latentbench.keys import Key
from latentbench.noise import Effect, Site, kind_of
from latentbench.noise._weight import ValueNoise
from latentbench.records import NoiseRecord


@dataclass(frozen=True)
class SvdWeight(ValueNoise):
    """Knob: `scale` a, relative to each singular value (0.6 in SVP's matched comparison)."""

    scale: float = 0.6
    scope: str = "prompt+latent"

    def __post_init__(self) -> None:
        self.check()

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        layers = {s: site.weight for s, site in sites.items() if kind_of(s) == "value"}
        if self.scale == 0:
            return NoiseRecord()
        generators = [key.generator() for key in keys]
        tensors, shared = {}, {}
        for layer, weight in layers.items():
            assert weight is not None, "value projections have a weight"
            left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
            draws = [g.standard_normal(len(values), dtype=np.float32) for g in generators]
            tensors[layer] = torch.from_numpy(np.stack(draws))
            shared[f"{layer}/left"] = (left * values * self.scale).float()
            shared[f"{layer}/right"] = right.float()
        return NoiseRecord(tensors, shared)

    def disturbances(self, record: NoiseRecord) -> Mapping[str, Effect]:
        shared = record.shared
        return {
            layer: _perturbed(shared[f"{layer}/left"], draws, shared[f"{layer}/right"])
            for layer, draws in record.tensors.items()
        }


def _perturbed(left: torch.Tensor, draws: torch.Tensor, right: torch.Tensor) -> Effect:
    def disturb(inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        dtype = inputs.dtype
        coordinates = (inputs @ left.to(dtype)) * draws.to(dtype)[:, None]
        return output + coordinates @ right.to(dtype)

    return disturb
