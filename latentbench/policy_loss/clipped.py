"""The clipped surrogate (PPO, arXiv 1707.06347 eq. 7) on text tokens:

    L = -(1/N) sum_k sum_i min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)

`token_sum` divides by N = the batch's rollouts (no length normalisation, Dr.GRPO); `token_mean` by
N = the batch's answer tokens (DAPO).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentbench.errors import InputError
from latentbench.records import LossInput, LossOutput


@dataclass(frozen=True)
class Clipped:
    clip_low: float = 0.2
    clip_high: float = 0.2
    aggregate: str = "token_sum"

    def __post_init__(self) -> None:
        if self.aggregate not in ("token_sum", "token_mean"):
            raise InputError(
                f"policy_loss.aggregate={self.aggregate}: choose token_sum or token_mean"
            )
        if not 0 < self.clip_low <= 1 or self.clip_high <= 0:
            raise InputError(
                f"policy_loss.clip_low={self.clip_low}, clip_high={self.clip_high}: both must be "
                "above 0 and clip_low at most 1, for example 0.2"
            )

    def __call__(self, batch: LossInput) -> LossOutput:
        mask = batch.mask.to(batch.log_probs.dtype)
        ratio = torch.exp((batch.log_probs - batch.old_log_probs) * mask)
        advantages = batch.advantages
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        objective = torch.minimum(ratio * advantages, clipped * advantages)
        count = batch.total_rows if self.aggregate == "token_sum" else batch.total_tokens
        bound = (clipped * advantages < ratio * advantages) & batch.mask.bool()
        return LossOutput(
            loss=-(objective * mask).sum() / count,
            sums={"ratio_clipped": bound.sum(), "tokens": batch.mask.sum()},
        )
