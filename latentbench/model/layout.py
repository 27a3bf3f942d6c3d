"""From an item to tokens: the exact token contract of the official Coconut code (dataset.py).

    question | <|start-latent|> | T slots | <|end-latent|> | steps | answer | end of text

The question, each step and the answer are tokenised apart and joined; only the question takes the
tokenizer's own beginning-of-text token, where it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from latentbench.model.tokenizer import Markers
from latentbench.records import Item, Prompt, Template

# Markers, end of text, and what a tokenizer may put before and after a text.
_SLACK = 8
# Items tokenised in one call: as fast as all at once, in little memory.
_PART = 8192
# Texts whose tokens are remembered: each problem of a small data set is written in many updates.
_REMEMBERED = 2**17


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

    @cached_property
    def _question_ids(self) -> Callable[[str], tuple[int, ...]]:
        return lru_cache(_REMEMBERED)(
            lambda text: self._without_end(self.tokenizer(text)["input_ids"])
        )

    @cached_property
    def _appended(self) -> int:
        """How many tokens the tokenizer puts behind a text; an end of text would stand between the
        question and the latent slots."""
        bare = self.tokenizer("1", add_special_tokens=False)["input_ids"]
        dressed = self.tokenizer("1")["input_ids"]
        lead = next(n for n in range(len(dressed)) if dressed[n : n + len(bare)] == bare)
        return len(dressed) - lead - len(bare)

    def _without_end(self, ids: Sequence[int]) -> tuple[int, ...]:
        return tuple(ids[: len(ids) - self._appended])

    @cached_property
    def _piece_ids(self) -> Callable[[str], tuple[int, ...]]:
        """The tokens of a step or an answer, which take no special tokens."""
        return lru_cache(_REMEMBERED)(
            lambda text: tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        )

    def prompt(self, item: Item) -> Prompt:
        return self._prompt(item, self._question_ids(item.question + self.template.question_end))

    def _prompt(self, item: Item, ids: Sequence[int]) -> Prompt:
        if self.latent:
            return Prompt(item.uid, (*ids, self.markers.start), self.markers.end, item.answer)
        return Prompt(item.uid, tuple(ids[:-1]), ids[-1], item.answer)

    def prompts(self, items: Sequence[Item]) -> list[Prompt]:
        """`prompt` of many items, several times faster than one by one."""
        prompts: list[Prompt] = []
        for part in _parts(items):
            questions = [item.question + self.template.question_end for item in part]
            rows = self.tokenizer(questions)["input_ids"]
            prompts += [
                self._prompt(item, self._without_end(ids))
                for item, ids in zip(part, rows, strict=True)
            ]
        return prompts

    def text(self, item: Item, steps: Sequence[str]) -> tuple[int, ...]:
        """What is written after the cue: the steps that stay text, the answer, end of text."""
        ids = [token for piece in self._pieces(item, steps) for token in self._piece_ids(piece)]
        return (*ids, self.markers.eos)

    def step_tokens(self, item: Item) -> list[tuple[int, ...]]:
        """The tokens of each written-out step."""
        pieces = self._pieces(item, item.steps)[:-1]
        return [self._piece_ids(piece) for piece in pieces]

    def answer_tokens(self, item: Item) -> int:
        """How many tokens at the end of a text are the answer itself, end of text included."""
        piece = self.template.answer_start + item.answer
        ids = self._piece_ids(piece)
        lead = [n for n in range(len(ids)) if self._leads(ids[:n])]
        return len(ids) - max(lead) + 1

    def _leads(self, ids: Sequence[int]) -> bool:
        return self.template.answer_start.startswith(self.tokenizer.decode(ids))

    def text_lengths(self, items: Sequence[Item]) -> list[int]:
        """How many tokens `text` has with all steps written out, for many items."""
        lengths: list[int] = []
        for part in _parts(items):
            pieces = [self._pieces(item, item.steps) for item in part]
            flat = [piece for own in pieces for piece in own]
            rows = iter(self.tokenizer(flat, add_special_tokens=False)["input_ids"])
            lengths += [sum(len(next(rows)) for _ in own) + 1 for own in pieces]
        return lengths

    def most(self, item: Item) -> tuple[int, int] | None:
        """Bounds on the lengths of prompt and full text, without tokenising; None where unknown.

        In ASCII no token is shorter than a character; a tokenizer may add one to every piece.
        """
        pieces = self._pieces(item, item.steps)
        if not all(map(str.isascii, (item.question, *pieces))):
            return None  # a character may take several tokens of bytes
        question = len(item.question) + len(self.template.question_end)
        return question + _SLACK, sum(map(len, pieces)) + len(pieces) + _SLACK

    def _pieces(self, item: Item, steps: Sequence[str]) -> list[str]:
        pieces = [step + self.template.step_end for step in steps]
        return [*pieces, self.template.answer_start + item.answer]

    def decode(self, ids: Sequence[int]) -> str:
        """Answer text as a grader reads it, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def _parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), _PART):
        yield items[start : start + _PART]
