"""Carriers: how the last hidden state becomes the next input vector. One file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import torch

Effects: TypeAlias = "Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]"
Choice: TypeAlias = "dict[str, torch.Tensor]"


@dataclass(frozen=True)
class Lexicon:
    """What a carrier may use of the model.

    `log_law` maps hidden states [row, feature] to log-probabilities [row, token type]; tokens that
    may not be written have -inf. `latent` is the id of the token that stands for a latent slot.
    """

    model: Any
    log_law: Callable[[torch.Tensor], torch.Tensor]
    latent: int


class Carrier(Protocol):
    """`sites` are the kinds of sites that a carrier adds to the model's own. `chooses` says whether
    it mixes a thought out of token types, so that a thought can be scored like an action.

    A carrier with weights of its own (`has_weights`) attaches them to the model in `build` as
    `model.latent_carrier`; they are saved and loaded with it. `k` is how many token types it mixes.
    """

    sites: ClassVar[tuple[str, ...]] = ()
    chooses: ClassVar[bool] = False
    has_weights: ClassVar[bool] = False
    k: int | None = None

    def build(self, model: Any) -> None:
        """Attach freshly drawn weights of its own; from torch's generator, which the caller
        seeds."""

    def check_vocabulary(self, size: int) -> None:
        """Raise InputError for a carrier that mixes more token types than the `size` there are."""

    def __call__(
        self, hidden: torch.Tensor, lexicon: Lexicon, effects: Effects
    ) -> tuple[torch.Tensor, Choice]:
        """hidden [row, feature] after the final norm -> the next input vector [row, feature] and
        what was chosen: `ids`, `scores`, `weights`, `log_probs` [row, k], or nothing."""
        ...
