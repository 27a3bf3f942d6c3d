"""The hidden-state carrier (Coconut, arXiv 2412.06769 §3): e_{t+1} = h_t.

h_t is the last hidden state after the model's final norm; no projection, no rescaling, no detach.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentbench.carrier import Carrier, Choice, Effects, Lexicon


@dataclass(frozen=True)
class Hidden(Carrier):
    def __call__(
        self, hidden: torch.Tensor, lexicon: Lexicon, effects: Effects
    ) -> tuple[torch.Tensor, Choice]:
        return hidden, {}
