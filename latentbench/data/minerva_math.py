"""Minerva Math (arXiv 2206.14858): 272 problems of MIT courses, answers often symbolic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from latentbench.data._published import Edition, PublishedQuestions


@dataclass(frozen=True)
class MinervaMath(PublishedQuestions):
    r"""272 problems; the answer is the content of the last `\boxed{}` of the published solution, so
    a unit that follows the box is no part of it. The hub set has it as a field."""

    name: str = "minerva_math"
    hub: str | None = "math-ai/minervamath"
    revision: str = "ee46ddc498933b1977577953250ca5c66be64f96"

    grader: ClassVar[str | None] = "math_verify"
    question: ClassVar[tuple[str, ...]] = ("problem", "question")
    boxed_in: ClassVar[str | None] = "solution"
    origin: ClassVar[str] = (
        "QwenLM/Qwen2.5-Math @ a45202bd16f1ec06f433442dc1152d0074773465 : "
        "evaluation/data/minerva_math/test.jsonl"
    )
    editions: ClassVar[tuple[Edition, ...]] = (
        Edition(272, "0e656b430d3a0a1dab6aa853f453ba3805e28e2cabe4fc72486a897cc09d8ba2"),
    )
