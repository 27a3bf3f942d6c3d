"""AIME 2024, papers I and II: 30 competition problems with integer answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from latentbench.data._published import Edition, PublishedQuestions


@dataclass(frozen=True)
class Aime2024(PublishedQuestions):
    """30 problems; the answer is an integer from 0 to 999, on the hub boxed in the solution."""

    name: str = "aime2024"
    hub: str | None = "math-ai/aime24"
    revision: str = "83a7f387baaa524a8bda0022eac0541582297103"

    grader: ClassVar[str | None] = "math_verify"
    question: ClassVar[tuple[str, ...]] = ("problem",)
    boxed_in: ClassVar[str | None] = "solution"
    origin: ClassVar[str] = (
        "QwenLM/Qwen2.5-Math @ a45202bd16f1ec06f433442dc1152d0074773465 : "
        "evaluation/data/aime24/test.jsonl"
    )
    editions: ClassVar[tuple[Edition, ...]] = (
        Edition(30, "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac"),
    )
