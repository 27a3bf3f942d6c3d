"""From an item to tokens: the exact token contract of the official Coconut code (dataset.py).

    question | <|start-latent|> | T slots | <|end-latent|> | steps | answer | end of text

The question, each step and the answer are tokenised apart and joined; only the question takes the
tokenizer's own beginning-of-text token, where it has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from latentbench.records import Item, Prompt, Template
from latentbench.tokenizer import Markers


@dataclass(frozen=True)
class Layout:
    """Writes items as tokens for one tokenizer and one data set's template.

    `latent` says whether the text is led in by the latent markers. Without them, the last token of
    the question is the cue, so that every layout is a prompt, T slots and a cue.
    """

    tokenizer: Any
    markers: Markers
    template: Template
    latent: bool

    def prompt(self, item: Item) -> Prompt:
        ids = self.tokenizer(item.question + self.template.question_end)["input_ids"]
        if self.latent:
            return Prompt(item.uid, (*ids, self.markers.start), self.markers.end, item.answer)
        return Prompt(item.uid, tuple(ids[:-1]), ids[-1], item.answer)

    def text(self, item: Item, steps: Sequence[str]) -> tuple[int, ...]:
        """What is written after the cue: the steps that stay text, the answer, end of text."""
        pieces = [step + self.template.step_end for step in steps]
        pieces.append(self.template.answer_start + item.answer)
        ids = [
            token
            for piece in pieces
            for token in self.tokenizer(piece, add_special_tokens=False)["input_ids"]
        ]
        return (*ids, self.markers.eos)

    def decode(self, ids: Sequence[int]) -> str:
        """Answer text as a grader reads it, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)
