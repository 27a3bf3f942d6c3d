"""No update from invalid samples (Latent-GRPO, arXiv 2604.27998 eq. 9-11; official core_algos.py):
a rollout is invalid when its answer hits the token budget without an end of text.

`excluded`, the paper's rule: the group's statistics are those of its valid rollouts alone (one
valid rollout: mean 0, deviation 1, so A = r; none: all 0). `zeroed`, the released GSM8K script:
invalid rewards stay in the statistics, and only their own advantage is 0. A group whose rewards are
all equal, invalid ones included, says nothing in either.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentbench.errors import refuse_unknown
from latentbench.records import Groups
from latentbench.transform import Estimate

VARIANTS = ("excluded", "zeroed")


@dataclass(frozen=True)
class InvalidMask:
    variant: str = "zeroed"

    def __post_init__(self) -> None:
        refuse_unknown("transform.invalid_mask.variant", self.variant, VARIANTS)

    def __call__(
        self, advantages: torch.Tensor, groups: Groups, estimate: Estimate
    ) -> torch.Tensor:
        if self.variant == "excluded":
            advantages = advantages.clone()
            telling = advantages.flatten(1).any(dim=1) & groups.truncated.any(dim=1)
            for prompt in telling.nonzero()[:, 0].tolist():
                valid = (~groups.truncated[prompt]).nonzero()[:, 0]
                if len(valid) == 0:
                    continue
                group = groups.pick(prompt, valid)
                again = group.rewards if len(valid) == 1 else estimate(group)
                advantages[prompt, valid] = again[0][:, None].to(advantages.dtype)
        return torch.where(groups.truncated[..., None], 0.0, advantages)
