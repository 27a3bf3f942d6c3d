"""Optimal correct-path first-token selection (Latent-GRPO, arXiv 2604.27998 eq. 18-21; official
core_algos.py): at the first latent slot, where all rollouts share the prompt, one of them leads.

Candidates are the rollouts with a positive advantage there; the winner has the largest mean
log-probability over its positions when it was sampled. `official` zeroes the first advantage of
every other rollout, incorrect ones included; `paper` that of the other candidates alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentbench.errors import refuse_unknown
from latentbench.records import Groups
from latentbench.transform import Estimate

RULES = ("paper", "official")


@dataclass(frozen=True)
class FirstToken:
    rule: str = "official"

    def __post_init__(self) -> None:
        refuse_unknown("transform.first_token.rule", self.rule, RULES)

    def __call__(
        self, advantages: torch.Tensor, groups: Groups, estimate: Estimate
    ) -> torch.Tensor:
        first = advantages[..., 0]
        candidates = first > 0
        winner = groups.log_probs.masked_fill(~candidates, float("-inf")).argmax(dim=1)
        led = torch.zeros_like(candidates).scatter(1, winner[:, None], True)
        silenced = ~led & candidates.any(dim=1, keepdim=True)
        if self.rule == "paper":
            silenced &= candidates
        return torch.cat([torch.where(silenced, 0.0, first)[..., None], advantages[..., 1:]], -1)
