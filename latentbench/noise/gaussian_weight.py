"""Entry-wise Gaussian noise on the value projections (the Gaussian-V control of SVP): W + s * eps,
one draw for each rollout and layer.

A record holds one matrix for each rollout and layer: rows x layers x d^2 numbers, for GPT-2 small
28 MB a rollout in float32. Keep `rl.prompts * rl.group_size` small there.
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
class GaussianWeight(ValueNoise):
    """Knobs: `scale`, the deviation of an entry: absolute (0.06 on GPT-2 in SVP's control), or with
    `relative` in units of the root mean square of the layer's entries."""

    scale: float = 0.06
    relative: bool = False
    scope: str = "prompt+latent"

    def __post_init__(self) -> None:
        self.check()

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        layers = {s: site.weight for s, site in sites.items() if kind_of(s) == "value"}
        if self.scale == 0:
            return NoiseRecord()
        generators = [key.generator() for key in keys]
        tensors = {}
        for layer, weight in layers.items():
            assert weight is not None, "value projections have a weight"
            draws = [g.standard_normal(tuple(weight.shape), dtype=np.float32) for g in generators]
            scale = self.scale
            if self.relative:
                scale *= float(weight.float().square().mean().sqrt())
            tensors[layer] = scale * torch.from_numpy(np.stack(draws))
        return NoiseRecord(tensors)

    def disturbances(self, record: NoiseRecord) -> Mapping[str, Effect]:
        return {layer: _added(weights) for layer, weights in record.tensors.items()}


def _added(weights: torch.Tensor) -> Effect:
    def disturb(inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        return output + torch.einsum("rpi,rio->rpo", inputs, weights.to(inputs.dtype))

    return disturb
