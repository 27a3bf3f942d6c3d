"""The Gumbel surrogate of Latent-GRPO (arXiv 2604.27998; official torch_functional.py): the mean
standard Gumbel log-density of the selected scores' margins,

    log P = (1/k) sum_i [-d_i - exp(-d_i)],    d_i = s_i - log p(i),

which enters the policy loss with a ratio like any token. A surrogate, not a density: selection,
clipping atoms and the moving nucleus are left out.

Once an update has carried log p past s_i (d_i < 0), its derivative (1 - exp(-d_i))/k changes sign.
For advantages A <= 0 the straight-through rule `ste` then changes the gradient and not the value:
`off` changes nothing; `official` puts -d in the place of d as the released code does, which bounds
the derivative to (-1, 0)/k and leaves its sign; `signed` makes it +(1 - exp(-|d_i|))/k.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from latentbench.errors import refuse_unknown
from latentbench.latent_loss import LatentLoss

RULES = ("off", "official", "signed")


@dataclass(frozen=True)
class GumbelSurrogate(LatentLoss):
    ste: str = "official"

    scores: ClassVar[bool] = True
    on_policy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_unknown("latent_loss.ste", self.ste, RULES)

    def log_probs(
        self, current: torch.Tensor, choice: Mapping[str, torch.Tensor], advantages: torch.Tensor
    ) -> torch.Tensor:
        chosen = choice["scores"] > float("-inf")  # fewer than k where the candidates ran out
        margin = torch.where(chosen, choice["scores"] - current, 0.0)
        density = -margin - torch.exp(-margin)
        crossed = (advantages[..., None] <= 0) & (margin < 0)
        if self.ste == "official":
            proxy = margin - torch.exp(margin)
            density = torch.where(crossed, density.detach() + proxy - proxy.detach(), density)
        elif self.ste == "signed":
            proxy = -(1 - torch.exp(-margin.abs())).detach() * margin
            density = torch.where(crossed, density.detach() + proxy - proxy.detach(), density)
        return torch.where(chosen, density, 0.0).sum(dim=-1) / chosen.sum(dim=-1)
