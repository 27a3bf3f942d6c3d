"""The reward of a number that is close enough, for targets that were computed in floating point.

GSM-Hard (Gao et al. 2023, PAL) publishes float64 results of programs: negative, fractional, most
above a million. PAL's own protocol, an absolute 1e-3, is `relative: 0.0, absolute: 1e-3`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from latentbench.errors import InputError, shorten
from latentbench.reward import Reward
from latentbench.reward._marker import after_marker, check_marker
from latentbench.reward._number import canonical, only

_BELOW_HALF = 0.49


def _float(spelling: str) -> float:
    """The float64 nearest to a canonical spelling, inf beyond the largest one."""
    if "/" in spelling:
        ratio = Fraction(spelling)
        try:
            return float(ratio)
        except OverflowError:
            return math.copysign(math.inf, ratio)
    return float(spelling)


@dataclass(frozen=True)
class Tolerance(Reward):
    """1.0 when |x - gold| <= max(`relative` |gold|, `absolute`) in float64, else 0.0; for a whole
    gold answer the allowance stays below one half, so that no other whole number is right.

    x is the first number after the last `marker`, read as `exact_number` reads it. What is no
    number or exceeds float64 matches nothing, and a gold answer of 0 has only `absolute`. The
    default `relative` is PAL's 1e-3 at a target of a million.
    """

    marker: str = "#"
    relative: float = 1e-9
    absolute: float = 0.0

    def __post_init__(self) -> None:
        check_marker(self.marker)
        for key, value in (("relative", self.relative), ("absolute", self.absolute)):
            if not 0 <= value < math.inf:
                raise InputError(
                    f"reward.{key}={value}: must be a finite number that is not negative, e.g. 1e-9"
                )

    def extract(self, text: str) -> str | None:
        """The number after the last marker, spelt canonically; None without marker or number."""
        tail = after_marker(text, self.marker)
        return None if tail is None else canonical(tail)

    def check_gold(self, gold: str) -> None:
        """Raise InputError for a gold answer that no text could ever match."""
        spelling = only(gold)
        if spelling is None or not math.isfinite(_float(spelling)):
            raise InputError(
                f"gold answer {shorten(gold)}: not one finite number to its end, as "
                "reward=tolerance needs; math_verify or exact_string could read it"
            )

    def __call__(self, text: str, gold: str) -> float:
        found, wanted = self.extract(text), only(gold)
        if found is None or wanted is None:
            return 0.0
        x, target = _float(found), _float(wanted)
        if not (math.isfinite(x) and math.isfinite(target)):
            return 0.0
        allowed = max(self.relative * abs(target), self.absolute)
        if target.is_integer():
            allowed = min(allowed, _BELOW_HALF)
        return float(abs(x - target) <= allowed)
