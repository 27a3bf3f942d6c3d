"""The reward of the right choice: one of a few letters (GPQA) or words (ProntoQA's True, False)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from latentbench.errors import InputError, shorten
from latentbench.reward import Reward
from latentbench.reward._marker import after_marker, check_marker

# A choice and what may lead it in are short; the rest of an endless answer is not looked at.
_LOOKED_AT = 200
_LEAD_IN_WORDS = ("the", "correct", "right", "best", "final", "answer", "option", "choice", "is")
_MACRO = r"\\(?:boxed|text|textbf|mathrm|mathbf)(?![a-zA-Z])"
_LEAD_IN_MARKS = rf"[\s(\[{{*_`$:=\"'\-]|\\[(\[]|{_MACRO}"
# What may stand between two choices, so that an answer of both is seen to be none.
_BETWEEN = (
    rf"(?:{_MACRO}|[\s,;/|&+()\[\]{{}}*_`$\\\-\u2010-\u2015]"
    r"|(?i:and|or|versus|vs\.?)(?!\w))*+"
)


@lru_cache(maxsize=32)
def _pattern(choices: tuple[str, ...], any_case: bool) -> re.Pattern[str]:
    """One group for each choice, and one, the last, for another choice that follows."""
    words = "|".join(word for word in _LEAD_IN_WORDS if word not in map(str.lower, choices))
    spelt = [rf"{re.escape(choice)}(?!\w)" for choice in choices]
    return re.compile(
        rf"(?:{_LEAD_IN_MARKS}|(?i:{words})(?!\w))*+"
        rf"(?:{'|'.join(f'({one})' for one in spelt)})"
        rf"({_BETWEEN}(?:{'|'.join(spelt)}))?",
        re.IGNORECASE if any_case else 0,
    )


@dataclass(frozen=True)
class Choice(Reward):
    """1.0 when the choice named after the last `marker` is the gold one, else 0.0.

    The choice must come first and stand alone: `B`, `(B)`, `B.`, `**B**`, `\\boxed{\\text{B}}` and
    `the answer is B: because ...` name B; `not B`, `Because` and `A or B` name none. Only the first
    200 characters are looked at. `any_case` reads `true` as `True`; letters are better left exact,
    where `a` is an article.
    """

    marker: str = "#"
    choices: list[str] = field(default_factory=lambda: ["A", "B", "C", "D"])
    any_case: bool = False

    def __post_init__(self) -> None:
        check_marker(self.marker)
        folded = {choice.lower() if self.any_case else choice for choice in self.choices}
        words = all(choice and choice == choice.strip() for choice in self.choices)
        if len(self.choices) < 2 or len(folded) < len(self.choices) or not words:
            raise InputError(
                f"reward.choices={list(self.choices)}: at least two different ones without blanks "
                "around them, e.g. [A,B,C,D] or [True,False]"
            )

    def _choice(self, text: str) -> str | None:
        found = _pattern(tuple(self.choices), self.any_case).match(text)
        if found is None:
            return None
        *named, another = found.groups()
        pairs = zip(self.choices, named, strict=True)
        return None if another else next(choice for choice, name in pairs if name)

    def extract(self, text: str) -> str | None:
        """The choice as `choices` spells it; None without marker or choice."""
        tail = after_marker(text, self.marker)
        return None if tail is None else self._choice(tail.lstrip()[:_LOOKED_AT])

    def check_gold(self, gold: str) -> None:
        """Raise InputError for a gold answer that is none of the choices."""
        if self._choice(gold[:_LOOKED_AT]) is None:
            raise InputError(
                f"gold answer {shorten(gold)}: none of reward.choices={list(self.choices)}"
            )

    def __call__(self, text: str, gold: str) -> float:
        found = self.extract(text)
        return float(found is not None and found == self._choice(gold[:_LOOKED_AT]))
