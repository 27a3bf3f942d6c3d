"""What concerns the three splits together: no question in two of them, one digest for all."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from itertools import combinations

from latentbench.errors import InputError, shorten
from latentbench.records import SPLITS, Splits

_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")


def normalise(question: str) -> str:
    """The form in which questions are compared: without case, white space and typographic quotes.

    Two publications of GSM8K differ in exactly these, so a comparison of the raw text misses
    copies.
    """
    text = unicodedata.normalize("NFKC", question).translate(_QUOTES).casefold()
    return " ".join(text.split())


def mask_numbers(question: str) -> str:
    """The normalised question with every number as `#`: equal for copies with other numbers."""
    return _NUMBER.sub("#", normalise(question))


def check_disjoint(
    splits: Splits, names: Mapping[str, str] | None = None, way_out: str = "remove them from one"
) -> None:
    """Refuse splits that share a question, whatever its case, white space and quotes.

    `names` maps train, validation and test to what the user calls them (files); `way_out` ends the
    message. Raises InputError with both names, the count and one example.
    """
    named = names or {}
    questions = {
        split: {normalise(item.question): item.question for item in getattr(splits, split)}
        for split in SPLITS
    }
    for first, second in combinations(SPLITS, 2):
        common = questions[first].keys() & questions[second].keys()
        if common:
            # min(): the same example in every run, whatever the order of the set
            raise InputError(
                f"{first} ({named.get(first, first)}) and {second} ({named.get(second, second)}) "
                f"have {len(common)} questions in common, e.g. "
                f"{shorten(questions[second][min(common)])}; {way_out}"
            )


def splits_digest(splits: Splits) -> str:
    """sha256 over the questions (by uid), steps and answers of the three splits, in their order."""
    state = hashlib.sha256()
    for split in SPLITS:
        items = getattr(splits, split)
        state.update(f"{split} {len(items)}\n".encode())
        for item in items:
            fields = (str(item.uid), *item.steps, item.answer)
            state.update("\x1f".join(fields).encode() + b"\n")
    return state.hexdigest()
