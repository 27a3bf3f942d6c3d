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
    """`needs` lists what a loss reads of a row beside its text: `targets`, `written` (the whole
    text), `written but the last` (all steps but one).
    `by_micro_batch` says whether the loss of a batch depends on how it is cut into micro-batches,
    so that `sft.micro_batch` makes another model.
    """

    by_micro_batch: ClassVar[bool]

    @property
    def needs(self) -> tuple[str, ...]: ...

    def __call__(
        self, policy: Policy, rows: Sequence[SftRow], batch: Sequence[SftRow], pad: int
    ) -> torch.Tensor:
        """The share of some `rows` in the loss of their `batch`; the shares of all rows add up.

        All `rows` have `policy.latents` latent slots.
        """
        ...
