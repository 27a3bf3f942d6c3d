"""Text, and a lexical target for every latent slot: the loss of Soft-Coconut, the mixture twin of
Coconut (after Latent-SFT's stage 2, arXiv 2510.15522: CE(text) + KL(soft label || p) at the slots).

A slot's soft label is uniform over the tokens of the step that it stands for; where a step has
several slots, each has its share of the tokens in order. Slots that stand for no step have none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from latentbench.errors import InputError
from latentbench.records import SftRow
from latentbench.sft_loss._pass import summed_cross_entropy, supervised_pass, text_tokens

if TYPE_CHECKING:
    from latentbench.model.policy import Policy


@dataclass(frozen=True)
class Lexical:
    """Knob: `weight` of the slots' mean KL beside the mean cross-entropy of the text (1 in
    Latent-SFT)."""

    weight: float = 1.0

    needs: ClassVar[tuple[str, ...]] = ("targets",)
    by_micro_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise InputError(f"sft_loss.weight={self.weight}: must be at least 0, for example 1")

    def __call__(
        self, policy: Policy, rows: Sequence[SftRow], batch: Sequence[SftRow], pad: int
    ) -> torch.Tensor:
        run = supervised_pass(policy, rows, pad)
        loss = summed_cross_entropy(policy, run) / text_tokens(batch)
        slots = sum(1 for row in batch for target in row.targets if target)
        if slots == 0:
            return loss
        law = policy.log_law(run.thoughts.sources)
        return loss + self.weight * _summed_kl(law, rows) / slots


def _summed_kl(law: torch.Tensor, rows: Sequence[SftRow]) -> torch.Tensor:
    """KL(soft label || law) summed over slots; law [row, step, token type]."""
    places: list[tuple[int, int, int]] = []
    shares: list[float] = []
    for row, example in enumerate(rows):
        for step, target in enumerate(example.targets):
            for token, count in Counter(target).items():
                places.append((row, step, token))
                shares.append(count / len(target))
    share = torch.tensor(shares, dtype=law.dtype, device=law.device)
    index = torch.tensor(places, dtype=torch.long, device=law.device).reshape(-1, 3)
    entropy = -sum(value * math.log(value) for value in shares)
    return -(share * law[index[:, 0], index[:, 1], index[:, 2]]).sum() - entropy
