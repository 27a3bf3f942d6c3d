"""Entry-wise Gaussian noise on the value projections (the Gaussian-V control of SVP): W + s * eps,
one draw for each rollout and layer.

A record holds one matrix for each rollout and layer: rows x layers x d^2 numbers, for GPT-2 small
28 MB a rollout in float32. Keep `rl.prompts * rl.group_size` small there.
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
class GaussianWeight(ValueNoise):
    """Knobs: `scale`, the deviation of an entry: absolute (0.06 on GPT-2 in SVP's control), or with
    `relative` in units of the root mean square of the layer's entries."""

    scale: float = 0.06
    relative: bool = False
    scope: str = "prompt+latent"

    def __post_init__(self) -> None:
        self.check()

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        if self.scale == 0:
            return NoiseRecord()
        weights = value_weights(sites)
        draws = normal_draws(keys, {layer: tuple(w.shape) for layer, w in weights.items()})
        return NoiseRecord({layer: self._scale(w) * draws[layer] for layer, w in weights.items()})

    def _scale(self, weight: torch.Tensor) -> float:
        unit = float(weight.float().square().mean().sqrt()) if self.relative else 1.0
        return self.scale * unit

    def disturbances(self, record: NoiseRecord) -> Mapping[str, Effect]:
        return {layer: _added(weights) for layer, weights in record.tensors.items()}


def _added(weights: torch.Tensor) -> Effect:
    def disturb(inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        return output + torch.einsum("rpi,rio->rpo", inputs, weights.to(inputs.dtype))

    return disturb
