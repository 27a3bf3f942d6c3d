"""No latent loss: slots are no actions, and the answer's gradient runs through them (BPTT)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from latentbench.latent_loss import LatentLoss


@dataclass(frozen=True)
class None_(LatentLoss):
    scores: ClassVar[bool] = False
    on_policy: ClassVar[bool] = False

    def log_probs(
        self, current: torch.Tensor, choice: Mapping[str, torch.Tensor], advantages: torch.Tensor
    ) -> torch.Tensor:
        return current.sum(dim=-1)[:, :0]
