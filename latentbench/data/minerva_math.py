"""Minerva Math (arXiv 2206.14858): 272 problems of MIT courses, answers often symbolic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, File, HubSplit, Published, of_fields
from latentbench.data._rows import boxed, gold, make_item, text
from latentbench.records import Item


def parse(record: Mapping[str, Any], where: str) -> Item | None:
    """A published row as a question and its gold. Raises InputError, which begins with `where`."""
    if "answer" in record:
        answer = gold(record, where, "answer")
    else:
        answer = boxed(text(record, where, "solution"), where)
    question = text(record, where, "problem", "question")
    return make_item(question, (), answer, where)


@dataclass(frozen=True)
class MinervaMath(Published):
    r"""272 problems; the answer is the content of the last `\boxed{}` of the published solution, so
    a unit that follows the box is no part of it. The hub set has it as a field."""

    name: str = "minerva_math"
    hub: str | None = "math-ai/minervamath"
    revision: str = "ee46ddc498933b1977577953250ca5c66be64f96"

    grader: ClassVar[str] = "math_verify"
    files: ClassVar[tuple[File, ...]] = (
        File(
            "minerva_math/test.jsonl",
            "test",
            "QwenLM/Qwen2.5-Math @ a45202bd16f1ec06f433442dc1152d0074773465 : "
            "evaluation/data/minerva_math/test.jsonl",
            of_fields(parse),
            (Edition(272, "0e656b430d3a0a1dab6aa853f453ba3805e28e2cabe4fc72486a897cc09d8ba2"),),
        ),
    )
    hub_splits: ClassVar[tuple[HubSplit, ...]] = (HubSplit("test", of_fields(parse), "test", 272),)
