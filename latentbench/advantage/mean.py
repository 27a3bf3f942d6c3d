"""The mean-only advantage A_k = r_k - mean(r) (Dr.GRPO, arXiv 2503.20783; Dropout-GRPO §2.5).

At theta_old the group surrogate with it is (K-1)/K times the exact policy gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentbench.records import Groups


@dataclass(frozen=True)
class Mean:
    def __call__(self, groups: Groups) -> torch.Tensor:
        rewards = groups.rewards
        flat = rewards.amax(dim=1, keepdim=True) == rewards.amin(dim=1, keepdim=True)
        # The mean of equal fractions carries a rounding error; a flat group is 0 by definition.
        return torch.where(flat, 0.0, rewards - rewards.mean(dim=1, keepdim=True))
