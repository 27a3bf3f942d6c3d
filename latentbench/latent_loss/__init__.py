"""Latent losses: what a latent slot's choice is scored by. One file each.

A scored slot is an action of its own: the thoughts of the rollout are stored and fed again as they
were, no gradient runs from one slot into another, and the slots stand before the answer's tokens in
the policy loss. Without a latent loss the thoughts are made again in the replay, and the gradient
of the answer runs through all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

import torch


class LatentLoss(Protocol):
    """`scores` says whether latent slots are actions at all. `on_policy` slots have no ratio: their
    old log-probability is always the present one. With `fixed_inputs` the vectors of prompts and
    text are stored like the thoughts, and the embeddings are trained through the head alone."""

    scores: ClassVar[bool]
    on_policy: ClassVar[bool]
    fixed_inputs: bool = False

    def log_probs(
        self, current: torch.Tensor, choice: Mapping[str, torch.Tensor], advantages: torch.Tensor
    ) -> torch.Tensor:
        """The (surrogate) log-probability of each slot's choice [row, step].

        `current` [row, step, k] are the log-probabilities of the token types it is mixed of, under
        the full law at temperature 1; `advantages` [row, step].
        """
        ...
