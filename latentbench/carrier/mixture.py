"""The mixture carrier: a thought is a mixture of token embeddings, e = sum_i q_i E_i over the k
best token types of the LM head (LEPO, arXiv 2604.17892; Latent-GRPO, arXiv 2604.27998 eq. 1).

Noise acts on the log-probabilities, before the best k are picked. Without it the thought is the
mixture of the k most probable token types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from latentbench.carrier import Carrier, Choice, Effects, Lexicon
from latentbench.errors import InputError
from latentbench.filters import keep, nucleus


@dataclass(frozen=True)
class Mixture(Carrier):
    """Knobs: `k` token types at most; `temperature` of the softmax over them; `top_p`, the nucleus
    that they are picked from (1 is all). Official: k 10 in Latent-GRPO, 30 in LEPO.

    A choice has `ids`, `scores` (log-probability plus noise; -inf where fewer than k were left),
    `weights` q and `log_probs` (without noise), all [row, k].
    """

    k: int = 10
    temperature: float = 1.0
    top_p: float = 1.0

    sites: ClassVar[tuple[str, ...]] = ("scores",)
    chooses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"carrier.k={self.k}: a mixture needs at least 1 token type, e.g. 10")
        if not self.temperature > 0:
            raise InputError(f"carrier.temperature={self.temperature}: must be above 0, e.g. 1")
        if not 0 < self.top_p <= 1:
            raise InputError(f"carrier.top_p={self.top_p}: must lie in (0, 1]; 1 keeps all")

    def check_vocabulary(self, size: int) -> None:
        """Refuse a k that there are not enough token types for. Raises InputError."""
        if self.k > size:
            raise InputError(
                f"carrier.k={self.k}: this model can write {size} token types; choose at most that"
            )

    def __call__(
        self, hidden: torch.Tensor, lexicon: Lexicon, effects: Effects
    ) -> tuple[torch.Tensor, Choice]:
        log_law = lexicon.log_law(hidden)
        scores = keep(log_law, nucleus(log_law, self.top_p))
        if "scores" in effects:
            scores = effects["scores"](log_law, scores)
        best = scores.topk(self.k, dim=-1)
        weights = (best.values / self.temperature).softmax(dim=-1)
        embeddings = lexicon.model.get_input_embeddings()(best.indices)
        thought = torch.einsum("rk,rkf->rf", weights.to(embeddings.dtype), embeddings)
        choice = {
            "ids": best.indices,
            "scores": best.values,
            "weights": weights,
            "log_probs": log_law.gather(-1, best.indices),
        }
        return thought, choice
