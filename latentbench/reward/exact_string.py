"""The reward of the official Coconut evaluation: the same text, character by character.

ProsQA answers with a sentence and ProntoQA with True or False; on GSM8K this is the published
protocol too, where `exact_number` reads numbers. As in run.py of facebookresearch/coconut: what
follows the last `#` (everything where there is none), commas removed, stripped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from latentbench.errors import InputError, shorten
from latentbench.reward import Reward
from latentbench.reward._marker import check_marker


def _bare(text: str) -> str:
    return text.replace(",", "").strip()


@dataclass(frozen=True)
class ExactString(Reward):
    """1.0 when the text after the last `marker` equals the gold answer, both without commas and
    surrounding blanks, else 0.0. A text without the marker is an answer as a whole.

    With a `pattern`, a regular expression, the answer is its last match, and there is no marker.
    """

    marker: str = "#"
    pattern: str | None = None

    def __post_init__(self) -> None:
        check_marker(self.marker)
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise InputError(
                f"reward.pattern={self.pattern!r}: no regular expression ({error})"
            ) from None

    def extract(self, text: str) -> str | None:
        """The text that is compared; None when nothing is left of it."""
        if self.pattern is None:
            return _bare(text.rpartition(self.marker)[2]) or None
        found = None
        for match in re.finditer(self.pattern, text):
            found = _bare(match[0]) or found
        return found

    def check_gold(self, gold: str) -> None:
        """Raise InputError for a gold answer that no text could ever match."""
        bare = _bare(gold)
        if self.pattern is not None and self.extract(bare) != bare:
            raise InputError(
                f"gold answer {shorten(gold)}: is not what reward.pattern={self.pattern!r} finds; "
                "no answer could equal it"
            )
        if not bare or (self.pattern is None and self.marker in bare):
            raise InputError(
                f"gold answer {shorten(gold)}: empty, or holds the marker "
                f"reward.marker={self.marker!r}; no answer could equal it"
            )

    def __call__(self, text: str, gold: str) -> float:
        found = self.extract(text)
        return float(found is not None and found == _bare(gold))
