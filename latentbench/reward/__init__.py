"""Rewards: what an answer is worth, in training and in tests. One file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Reward(Protocol):
    """What a grader has; a subclass takes over what is written out here.

    `marker` leads an answer in; None where answers have none.
    """

    marker: str | None = None

    def extract(self, text: str) -> str | None:
        """The answer in a text, spelt canonically: texts with one vote together in maj@k. None
        where there is none."""
        ...

    def check_gold(self, gold: str) -> None:
        """Raise InputError for a gold answer that no text could ever match."""
        ...

    def __call__(self, text: str, gold: str) -> float:
        """1.0 for a right text, else 0.0. Total: every text has a reward."""
        ...

    @property
    def failures(self) -> Mapping[str, int]:
        """How many comparisons of this process came to no end and counted as not equal, by kind."""
        return {}
