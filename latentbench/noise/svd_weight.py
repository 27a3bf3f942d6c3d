"""Singular-value perturbation of the value projections (SVP): W = U S V^T becomes
U S (1 + a * eps) V^T, eps ~ N(0, I), one draw for each rollout and layer.

U, S and V are those of the weights at the time of the draw and stay in the record, so that the
disturbance does not move with the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from latentbench.keys import Key
from latentbench.noise import Effect, Site
from latentbench.noise._weight import ValueNoise, normal_draws, value_weights
from latentbench.records import NoiseRecord


@dataclass(frozen=True)
class SvdWeight(ValueNoise):
    """Knob: `scale` a, relative to each singular value (0.6 in SVP's matched comparison)."""

    scale: float = 0.6
    scope: str = "prompt+latent"

    def __post_init__(self) -> None:
        self.check()

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        if self.scale == 0:
            return NoiseRecord()
        shared = {}
        weights = value_weights(sites)
        for layer, weight in weights.items():
            left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
            shared[f"{layer}/left"] = (left * values * self.scale).float()
            shared[f"{layer}/right"] = right.float()
        draws = normal_draws(keys, {layer: (min(w.shape),) for layer, w in weights.items()})
        return NoiseRecord(draws, shared)

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
