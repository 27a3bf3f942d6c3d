"""Cross-entropy of the text alone (Coconut, arXiv 2412.06769 §3): the mean over the batch's text
tokens; question, markers and latent slots are not scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from latentbench.records import SftRow
from latentbench.sft_loss._pass import summed_cross_entropy, supervised_pass, text_tokens

if TYPE_CHECKING:
    from latentbench.model.policy import Policy


@dataclass(frozen=True)
class TextLoss:
    needs: ClassVar[tuple[str, ...]] = ()
    by_micro_batch: ClassVar[bool] = False

    def __call__(
        self, policy: Policy, rows: Sequence[SftRow], batch: Sequence[SftRow], pad: int
    ) -> torch.Tensor:
        return summed_cross_entropy(policy, supervised_pass(policy, rows, pad)) / text_tokens(batch)
