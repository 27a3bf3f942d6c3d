"""Advantage transforms: post-operations, applied in the order in which they are listed."""

from __future__ import annotations

from typing import Protocol

import torch

from latentbench.records import Groups


class Transform(Protocol):
    def __call__(self, advantages: torch.Tensor, groups: Groups) -> torch.Tensor:
        """Advantages [prompt, rollout] -> advantages; a group of zeros stays zeros."""
        ...
