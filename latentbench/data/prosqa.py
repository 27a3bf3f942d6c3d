"""ProsQA (arXiv 2412.06769): which of two kinds an individual is, in a graph of made-up kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, File, Published, of_fields
from latentbench.data._rows import make_item, text, texts
from latentbench.records import Item

_ORIGIN = "facebookresearch/coconut @ 27273cb8cca4bb763c041a63b036d0c3b7cbbb48 : data"


def parse(record: Mapping[str, Any], where: str) -> Item | None:
    """A published row as a question and its gold. Raises InputError, which begins with `where`."""
    question, answer = (text(record, where, name) for name in ("question", "answer"))
    return make_item(question, texts(record, where, "steps"), answer, where)


def _file(name: str, split: str, *editions: Edition, optional: bool = False) -> File:
    alias = f"prosqa_{name}.json"
    return File(
        f"prosqa/{name}.json",
        split,
        f"{_ORIGIN}/{alias}",
        of_fields(parse),
        editions,
        alias,
        optional,
    )


@dataclass(frozen=True)
class Prosqa(Published):
    """300 validation and 500 test questions; the answer is a sentence, `Tom is a lempus.`

    `data.root` may be the `data` folder of the official code. Its 17,886 training rows train when
    `prosqa_train.json` (or `prosqa/train.json`) is there; without it the set evaluates only.
    """

    name: str = "prosqa"

    grader: ClassVar[str | None] = "exact_string"
    files: ClassVar[tuple[File, ...]] = (
        _file("train", "train", optional=True),
        _file(
            "valid",
            "validation",
            Edition(300, "c74e0de24f1e90ec48b1a993e6458a7be4caeef3928f5104e3c2e45d689a5249"),
        ),
        _file(
            "test",
            "test",
            Edition(500, "82ddc0afe6ee30eb31bb16fa208e293e55278a20fa987098d48519cae7e12680"),
        ),
    )
