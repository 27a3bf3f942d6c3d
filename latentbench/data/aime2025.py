"""AIME 2025, papers I and II: 30 competition problems with integer answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from latentbench.data._published import Edition, PublishedQuestions


@dataclass(frozen=True)
class Aime2025(PublishedQuestions):
    """30 problems; the answer is an integer from 0 to 999."""

    name: str = "aime2025"
    hub: str | None = "math-ai/aime25"
    revision: str = "563bb8404243c5f09de6ec262f2db674fe5bce9b"

    grader: ClassVar[str | None] = "math_verify"
    question: ClassVar[tuple[str, ...]] = ("problem",)
    origin: ClassVar[str] = (
        "zhshgmail/AReaL @ 04ab6018c4ef43919348efdc52ba6b679a14ce88 : "
        "evaluation/data/aime25/test.jsonl"
    )
    editions: ClassVar[tuple[Edition, ...]] = (
        Edition(30, "b4e273c02d3e7fe1b74b59eae768fc8230bfb0f79539890cb56f4361caac0331"),
    )
