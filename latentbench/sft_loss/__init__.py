"""Losses of the supervised stage: what the text, and perhaps the latent slots, are trained on. One
file each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

from latentbench.records import SftRow

if TYPE_CHECKING:
    from latentbench.model.policy import Policy


class SftLoss(Protocol):
    """`needs` lists the optional fields of SftRow that a loss reads: `targets`, `written`.
    `by_micro_batch` says whether the loss of a batch depends on how it is cut into micro-batches,
    so that `sft.micro_batch` makes another model.
    """

    needs: ClassVar[tuple[str, ...]]
    by_micro_batch: ClassVar[bool]

    def __call__(
        self, policy: Policy, rows: Sequence[SftRow], batch: Sequence[SftRow], pad: int
    ) -> torch.Tensor:
        """The share of some `rows` in the loss of their `batch`; the shares of all rows add up.

        All `rows` have `policy.latents` latent slots.
        """
        ...
