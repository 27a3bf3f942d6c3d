"""Advantage estimators: rewards of whole groups [prompt, rollout] -> advantages. One file each."""

from __future__ import annotations

from typing import Protocol

import torch

from latentbench.records import Groups


class Advantage(Protocol):
    def __call__(self, groups: Groups) -> torch.Tensor:
        """Advantages [prompt, rollout]; a group of equal rewards gets exactly 0."""
        ...
