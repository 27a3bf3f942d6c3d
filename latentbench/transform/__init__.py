"""Advantage transforms: post-operations, applied in the order in which they are listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch

from latentbench.records import Groups

# As text: composing a configuration loads no torch.
Estimate: TypeAlias = "Callable[[Groups], torch.Tensor]"


class Transform(Protocol):
    def __call__(
        self, advantages: torch.Tensor, groups: Groups, estimate: Estimate
    ) -> torch.Tensor:
        """Advantages [prompt, rollout, position] -> advantages; a group of zeros stays zeros.

        Positions are the scored ones: latent slots where there is a latent loss, then the answer's
        tokens. `estimate` is the run's advantage estimator, for transforms that ask it again.
        """
        ...
