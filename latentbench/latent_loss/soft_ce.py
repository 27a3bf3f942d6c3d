"""The soft surrogate of LEPO (arXiv 2604.17892 eq. 9; official lepo_trainer.py).

A slot's soft label z is scored by its cross-entropy with the model's law: the loss is
A * CE(z, p) = -A * sum_v z_v log p_v.

The descent direction at the slot's logits is A (z - p). No ratio and no clipping; with one-hot z it
is the policy gradient of the token. The official trainer feeds stored vectors at every position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from latentbench.latent_loss import LatentLoss


@dataclass(frozen=True)
class SoftCe(LatentLoss):
    fixed_inputs: bool = True

    scores: ClassVar[bool] = True
    on_policy: ClassVar[bool] = True

    def log_probs(
        self, current: torch.Tensor, choice: Mapping[str, torch.Tensor], advantages: torch.Tensor
    ) -> torch.Tensor:
        mixed = choice["weights"] > 0  # 0 * -inf where fewer than k token types were left
        return (choice["weights"] * torch.where(mixed, current, 0.0)).sum(dim=-1)
