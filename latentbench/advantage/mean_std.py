"""The standardised advantage A_k = (r_k - mean(r)) / (std(r) + eps) (GRPO, arXiv 2402.03300 §4.1).

The random within-group std depends on r_k, so the estimator is biased; offered because most of the
field uses it. `ddof` is 1 (torch, TRL) or 0 (NumPy).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentbench.errors import InputError
from latentbench.records import Groups


@dataclass(frozen=True)
class MeanStd:
    eps: float = 1e-4
    ddof: int = 1

    def __post_init__(self) -> None:
        if self.ddof not in (0, 1):
            raise InputError(f"advantage.ddof={self.ddof}: choose 0 (population) or 1 (sample)")
        if self.eps < 0:
            raise InputError(f"advantage.eps={self.eps}: must be at least 0, for example 1e-4")

    def __call__(self, groups: Groups) -> torch.Tensor:
        rewards = groups.rewards
        centred = rewards - rewards.mean(dim=1, keepdim=True)
        flat = rewards.amax(dim=1, keepdim=True) == rewards.amin(dim=1, keepdim=True)
        spread = rewards.std(dim=1, keepdim=True, correction=self.ddof) + self.eps
        # A flat group is 0 by definition; its mean may carry a rounding error, and eps may be 0.
        return torch.where(flat, 0.0, centred / torch.where(flat, 1.0, spread))
