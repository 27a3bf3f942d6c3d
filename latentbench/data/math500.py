"""MATH-500 (arXiv 2305.20050): 500 held-out problems of MATH, answers in LaTeX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from latentbench.data._published import Edition, PublishedQuestions


@dataclass(frozen=True)
class Math500(PublishedQuestions):
    """500 problems of seven subjects; 175 answers are not plain numbers."""

    name: str = "math500"
    hub: str | None = "HuggingFaceH4/MATH-500"
    revision: str = "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be"

    grader: ClassVar[str | None] = "math_verify"
    question: ClassVar[tuple[str, ...]] = ("problem",)
    origin: ClassVar[str] = (
        "zhshgmail/AReaL @ 04ab6018c4ef43919348efdc52ba6b679a14ce88 : "
        "evaluation/data/math_500/test.jsonl"
    )
    editions: ClassVar[tuple[Edition, ...]] = (
        Edition(500, "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132"),
    )
