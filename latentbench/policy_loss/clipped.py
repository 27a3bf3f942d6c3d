"""The clipped surrogate (PPO, arXiv 1707.06347 eq. 7) on every scored position, with rho the ratio:

    J = min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)

`dual_clip` c bounds it from below where A < 0: max(J, c A) (Dual-clip PPO, arXiv 1912.09729 eq. 5).
The loss is minus the sum of J, divided as `aggregate` says:

    token_sum      by the batch's rollouts: no length normalisation, up to a constant Dr.GRPO
    constant       by the batch's rollouts times `length`: Dr.GRPO (arXiv 2503.20783) as TRL has it
    token_mean     by the batch's scored positions (DAPO, arXiv 2503.14476 eq. 8)
    sequence_mean  first by each rollout's own, then by the rollouts (GRPO, arXiv 2402.03300 eq. 3)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentbench.errors import InputError, refuse_unknown
from latentbench.records import LossInput, LossOutput

AGGREGATES = ("token_sum", "constant", "token_mean", "sequence_mean")


@dataclass(frozen=True)
class Clipped:
    clip_low: float = 0.2
    clip_high: float = 0.2
    aggregate: str = "token_sum"
    length: int | None = None
    dual_clip: float | None = None

    def __post_init__(self) -> None:
        refuse_unknown("policy_loss.aggregate", self.aggregate, AGGREGATES)
        if not 0 < self.clip_low <= 1 or not self.clip_high > 0:
            raise InputError(
                f"policy_loss.clip_low={self.clip_low}, clip_high={self.clip_high}: both must be "
                "above 0 and clip_low at most 1, for example 0.2"
            )
        if self.dual_clip is not None and not self.dual_clip > 1:
            raise InputError(
                f"policy_loss.dual_clip={self.dual_clip}: must be above 1, for example 3, or null "
                "for none"
            )
        if self.aggregate == "constant" and (self.length is None or self.length < 1):
            raise InputError(
                f"policy_loss.length={self.length} with policy_loss.aggregate=constant: must be at "
                "least 1, for example '${answer.budget}'"
            )
        if self.aggregate != "constant" and self.length is not None:
            raise InputError(
                f"policy_loss.length={self.length} with policy_loss.aggregate={self.aggregate}: "
                "only aggregate=constant divides by it; set policy_loss.length=null"
            )

    def __call__(self, batch: LossInput) -> LossOutput:
        mask = batch.mask.to(batch.log_probs.dtype)
        advantages = batch.advantages
        ratio = torch.exp((batch.log_probs - batch.old_log_probs) * mask)
        plain = ratio * advantages
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        objective = torch.minimum(plain, clipped * advantages)
        if self.dual_clip is not None:
            floor = torch.maximum(objective, self.dual_clip * advantages)
            objective = torch.where(advantages < 0, floor, objective)
        bound = (objective != plain) & batch.mask.bool()
        return LossOutput(
            loss=-(objective * self._weights(mask)).sum() / self._count(batch),
            sums={"ratio_clipped": bound.sum(), "tokens": batch.mask.sum()},
        )

    def _weights(self, mask: torch.Tensor) -> torch.Tensor:
        """[row, token]: what each position counts, before the division by the whole batch."""
        if self.aggregate != "sequence_mean":
            return mask
        return mask / mask.sum(dim=1, keepdim=True).clamp(min=1)  # a row may have none

    def _count(self, batch: LossInput) -> int:
        if self.aggregate == "token_mean":
            return batch.total_tokens
        return batch.total_rows * (self.length or 1)
