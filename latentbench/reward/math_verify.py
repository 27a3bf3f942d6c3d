"""The reward of a right LaTeX answer, compared by Math-Verify (Kydlíček, Hugging Face, 2025).

The library parses both answers into SymPy and compares numbers, expressions, sets, intervals,
matrices and equations. It runs in a process of its own: see `_math_server.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from latentbench.errors import InputError, shorten
from latentbench.reward import Reward
from latentbench.reward._box import BRACE, last_box
from latentbench.reward._marker import after_marker, check_marker
from latentbench.reward._math_client import math_client
from latentbench.reward._spelling import spelling

# Signs around an answer that are not part of it: $ and \( \), a final full stop, %, blanks.
_MATH_SIGNS = re.compile(r"\\?\$|(?<!\\)\\[()]|(?<!\\)\\\[(?!\d)|(?<!\\)\\\]")
_LEAD = re.compile(r"(?:\s|~|=|\\(?:displaystyle|q?quad)(?![a-zA-Z])|\\[,;:! ])+")
_TAIL = re.compile(r"(?:\s|~|\\?%|\\[,;:! \\]|\\q?quad|[,;]|(?<!\\right)\.)+\Z")
# 1,000 in its LaTeX spellings, and 1.5e3, which would be read as 1.5 times e times 3.
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\\[,! ]|,\\!|\{,\}|~|\s)\s*(?=[0-9]{3}(?![0-9]))")
_SCIENTIFIC = re.compile(r"([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))[eE]([-+]?[0-9]+)")


def _balanced(answer: str) -> bool:
    depth = 0
    for brace in BRACE.findall(answer):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return False
    return depth == 0


def _tidy(answer: str) -> str | None:
    """An answer without the signs around it; None when nothing is left or its braces are open."""
    if not _balanced(answer):
        return None
    answer = _MATH_SIGNS.sub("", answer)
    if lead := _LEAD.match(answer):
        answer = answer[lead.end() :]
    answer = _TAIL.sub("", answer)
    answer = _THOUSANDS.sub("", answer)
    if scientific := _SCIENTIFIC.fullmatch(answer):
        answer = rf"{scientific[1]} \times 10^{{{scientific[2]}}}"
    return answer or None


@dataclass(frozen=True)
class MathVerify(Reward):
    """1.0 when Math-Verify takes the answer for the gold one, else 0.0.

    The answer is what the last `\\boxed{...}` holds, or else the first line after the last
    `marker`; one of more than `longest` characters or with open braces is none. A comparison gets
    `seconds` of CPU time; one that needs more, or more than 512 MiB, is not equal. `failures`
    counts those. The first comparison starts a process, which takes seconds.
    """

    marker: str = "#"
    longest: int = 400
    seconds: float = 0.07

    def __post_init__(self) -> None:
        check_marker(self.marker)
        if not self.longest >= 1:
            raise InputError(f"reward.longest={self.longest}: at least 1 character, e.g. 400")
        if not 0.001 <= self.seconds <= 3600:
            raise InputError(
                f"reward.seconds={self.seconds}: CPU time of a comparison, 0.001 to 3600 seconds"
            )
        if not hasattr(os, "fork"):
            raise InputError(
                "reward=math_verify: needs a system with fork (Linux, macOS); use exact_number here"
            )

    def extract(self, text: str) -> str | None:
        """The answer in its one spelling, by which it votes; None where there is none.

        Of two answers with one spelling the grader says the same, not the other way round: what
        takes algebra to see, such as `2x` and `x+x`, are two votes.
        """
        answer = self._answer(text)
        return None if answer is None else spelling(answer)

    def _answer(self, text: str) -> str | None:
        """The answer as it is written, without signs around it; None where there is none."""
        answer = last_box(text, self.longest)
        if answer is None:
            tail = (after_marker(text, self.marker) or "").lstrip()
            answer = tail[: self.longest + 1].partition("\n")[0]
        return _tidy(answer) if len(answer) <= self.longest else None

    def check_gold(self, gold: str) -> None:
        """Raise InputError for a gold answer that no text could ever match."""
        if self._gold(gold) is None:
            raise InputError(
                f"gold answer {shorten(gold)}: empty, longer than reward.longest={self.longest} "
                "or with open braces; no answer could equal it"
            )

    def _gold(self, gold: str) -> str | None:
        """The gold answer of a plain answer or of a whole solution with a box."""
        answer = last_box(gold, self.longest)
        answer = gold if answer is None else answer
        return _tidy(answer) if len(answer) <= self.longest else None

    @property
    def failures(self) -> Mapping[str, int]:
        """How many comparisons of this process `timed_out` or `crashed`."""
        counts = math_client().counts
        return {outcome: counts[outcome] for outcome in ("timed_out", "crashed")}

    def __call__(self, text: str, gold: str) -> float:
        found, wanted = self._answer(text), self._gold(gold)
        if found is None or wanted is None:
            return 0.0
        return float(found == wanted or math_client().equal(wanted, found, self.seconds))
