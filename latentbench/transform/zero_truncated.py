"""No update from answers that hit the token budget: their advantage is zeroed, while their reward
stays in the group's statistics (the `include` variant of Latent-GRPO's invalid-sample masking)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentbench.records import Groups


@dataclass(frozen=True)
class ZeroTruncated:
    def __call__(self, advantages: torch.Tensor, groups: Groups) -> torch.Tensor:
        return torch.where(groups.truncated, 0.0, advantages)
