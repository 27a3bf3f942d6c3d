"""The pause carrier: every latent slot is filled with one learned vector, the embedding of the
`<|latent|>` token (pause tokens, arXiv 2310.02226; "pause as thought" in arXiv 2412.06769 §4).

The control for latent reasoning: the same number of forwards, and nothing fed back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentbench.carrier import Carrier, Choice, Effects, Lexicon


@dataclass(frozen=True)
class Pause(Carrier):
    def __call__(
        self, hidden: torch.Tensor, lexicon: Lexicon, effects: Effects
    ) -> tuple[torch.Tensor, Choice]:
        ids = torch.full(hidden.shape[:1], lexicon.latent, device=hidden.device)
        return lexicon.model.get_input_embeddings()(ids).to(hidden.dtype), {}
