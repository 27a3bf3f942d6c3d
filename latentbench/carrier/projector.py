"""The projector carrier (CODI, arXiv 2502.21074 §3): e_{t+1} = P(h_t), P a two-layer perceptron
with a layer norm behind it, trained with the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from latentbench.carrier import Carrier, Choice, Effects, Lexicon
from latentbench.errors import InputError


@dataclass(frozen=True)
class Projector(Carrier):
    """Knob: `width` of the perceptron's inner layer; null is the model's own width."""

    width: int | None = None

    has_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.width is not None and self.width < 1:
            raise InputError(f"carrier.width={self.width}: must be at least 1, or null")

    def build(self, model: Any) -> None:
        """Attach a new projector to the model; drawn from torch's generator, which the caller
        seeds."""
        from torch import nn

        feature = model.config.hidden_size
        inner = self.width or feature
        layers = {
            "down": nn.Linear(feature, inner),
            "activation": nn.GELU(),
            "up": nn.Linear(inner, feature),
            "norm": nn.LayerNorm(feature),
        }
        model.latent_carrier = nn.Sequential()
        for name, layer in layers.items():
            model.latent_carrier.add_module(name, layer)

    def __call__(
        self, hidden: torch.Tensor, lexicon: Lexicon, effects: Effects
    ) -> tuple[torch.Tensor, Choice]:
        return lexicon.model.latent_carrier(hidden), {}
