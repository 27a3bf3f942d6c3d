"""Positive advantages times `factor`: below 1 the update leans on what went wrong (the weighting of
W-REINFORCE, lambda = 0.1 there, applied to centred advantages)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from latentbench.errors import InputError
from latentbench.records import Groups


@dataclass(frozen=True)
class ScalePositive:
    factor: float = 0.1

    def __post_init__(self) -> None:
        if self.factor < 0:
            raise InputError(
                f"transform.scale_positive.factor={self.factor}: must be at least 0, e.g. 0.1"
            )

    def __call__(
        self,
        advantages: torch.Tensor,
        groups: Groups,
        estimate: Callable[[Groups], torch.Tensor],
    ) -> torch.Tensor:
        return torch.where(advantages > 0, advantages * self.factor, advantages)
