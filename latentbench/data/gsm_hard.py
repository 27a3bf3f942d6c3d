"""GSM-Hard (arXiv 2211.10435): GSM8K test questions with large numbers in place of small ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from latentbench.data._published import Edition, PublishedQuestions, full_or_part


@dataclass(frozen=True)
class GsmHard(PublishedQuestions):
    """1,319 questions; targets are floats, also negative and above 1e6, so they are graded within a
    relative tolerance. Many questions are unchanged GSM8K test questions. The published `code`
    of a row is never run."""

    name: str = "gsm_hard"
    hub: str | None = "reasoning-machines/gsm-hard"
    revision: str = "960448f73503112d4226baeb8eb41d3fb5ae2506"

    grader: ClassVar[str | None] = "tolerance"
    question: ClassVar[tuple[str, ...]] = ("input",)
    answer: ClassVar[tuple[str, ...]] = ("target",)
    origin: ClassVar[str] = (
        "reasoning-machines/pal @ f81ca2a9777f002f98a6b4d0f10b61bd5c8feb02 : "
        "datasets/gsmhardv2.jsonl"
    )
    editions: ClassVar[tuple[Edition, ...]] = full_or_part(
        1319, 923, "b6028967a6dc01b838a6878192d4ba1d960286bdf1e5c94e5e7fe04941c1b04f"
    )
    hub_split: ClassVar[str] = "train"
