"""MultiArith (Roy and Roth 2015): word problems of two or more operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from latentbench.data._published import Edition, PublishedQuestions, full_or_part


@dataclass(frozen=True)
class MultiArith(PublishedQuestions):
    """600 questions with numeric answers. Some stand there twice with one answer; each counts once,
    and the provenance says how many were left out."""

    name: str = "multiarith"
    hub: str | None = "ChilleD/MultiArith"
    revision: str = "144d44c3fb87c0b9097ac9593c789e716a282e3e"

    grader: ClassVar[str | None] = "exact_number"
    question: ClassVar[tuple[str, ...]] = ("input", "question")
    answer: ClassVar[tuple[str, ...]] = ("target", "final_ans")
    origin: ClassVar[str] = (
        "reasoning-machines/pal @ f81ca2a9777f002f98a6b4d0f10b61bd5c8feb02 : "
        "datasets/mawpsmultiarith.jsonl"
    )
    editions: ClassVar[tuple[Edition, ...]] = full_or_part(
        600, 420, "456a01fa91bed18f71a617a65cea1cf4e66e13be8bf888fac8c89a527bbb2a04"
    )
    hub_split: ClassVar[str] = "train+test"
