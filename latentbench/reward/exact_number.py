"""The reward of a right final number: 1 for the exact value after the marker, else 0."""

from __future__ import annotations

from dataclasses import dataclass

from latentbench.errors import InputError, shorten
from latentbench.reward import Reward
from latentbench.reward._marker import after_marker, check_marker
from latentbench.reward._number import canonical, only


@dataclass(frozen=True)
class ExactNumber(Reward):
    """1.0 when the first number after the last `marker` has exactly the gold value, else 0.0.

    `1,000`, `$1000`, `+1000` and `1000.00` are equal, so are `2/5` and `0.4`; what follows a
    number (`.`, `%`, a unit) does not count. Total: every text has a reward, in time linear in its
    length; a gold answer that is no number gives 0.0 for every text, so check it once with
    `check_gold`.
    """

    marker: str = "#"

    def __post_init__(self) -> None:
        check_marker(self.marker)

    def extract(self, text: str) -> str | None:
        """The number after the last marker, spelt canonically; None without marker or number."""
        tail = after_marker(text, self.marker)
        return None if tail is None else canonical(tail)

    def check_gold(self, gold: str) -> None:
        """Raise InputError for a gold answer that no text could ever match."""
        if only(gold) is None:
            raise InputError(
                f"gold answer {shorten(gold)}: not one number to its end, as reward=exact_number "
                "needs; math_verify or exact_string could read it"
            )

    def __call__(self, text: str, gold: str) -> float:
        found = self.extract(text)
        return float(found is not None and found == only(gold))
