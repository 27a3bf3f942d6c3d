"""AMC 12 of 2023, papers A and B: 40 competition problems with numeric answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from latentbench.data._published import Edition, PublishedQuestions


@dataclass(frozen=True)
class Amc23(PublishedQuestions):
    """40 problems; answers stand there as floats, `27.0`, and are read as `27`."""

    name: str = "amc23"
    hub: str | None = "math-ai/amc23"
    revision: str = "80815d37005feb82cd7f8fbc6901d5d3eff43057"

    grader: ClassVar[str | None] = "math_verify"
    question: ClassVar[tuple[str, ...]] = ("problem", "question")
    origin: ClassVar[str] = (
        "QwenLM/Qwen2.5-Math @ a45202bd16f1ec06f433442dc1152d0074773465 : "
        "evaluation/data/amc23/test.jsonl"
    )
    editions: ClassVar[tuple[Edition, ...]] = (
        Edition(40, "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4"),
    )
