"""Policy losses: scored tokens with advantages -> a scalar. One file each."""

from __future__ import annotations

from typing import Protocol

from latentbench.records import LossInput, LossOutput


class PolicyLoss(Protocol):
    def __call__(self, batch: LossInput) -> LossOutput: ...
