"""AMC 12 of 2023, papers A and B: 40 competition problems with numeric answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, File, HubSplit, Published, of_fields
from latentbench.data._rows import gold, make_item, text
from latentbench.records import Item


def parse(record: Mapping[str, Any], where: str) -> Item | None:
    """A published row as a question and its gold. Raises InputError, which begins with `where`."""
    question = text(record, where, "problem", "question")
    return make_item(question, (), gold(record, where, "answer"), where)


@dataclass(frozen=True)
class Amc23(Published):
    """40 problems; answers stand there as floats, `27.0`, and are read as `27`."""

    name: str = "amc23"
    hub: str | None = "math-ai/amc23"
    revision: str = "80815d37005feb82cd7f8fbc6901d5d3eff43057"

    grader: ClassVar[str] = "math_verify"
    files: ClassVar[tuple[File, ...]] = (
        File(
            "amc23/test.jsonl",
            "test",
            "QwenLM/Qwen2.5-Math @ a45202bd16f1ec06f433442dc1152d0074773465 : "
            "evaluation/data/amc23/test.jsonl",
            of_fields(parse),
            (Edition(40, "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4"),),
        ),
    )
    hub_splits: ClassVar[tuple[HubSplit, ...]] = (HubSplit("test", of_fields(parse), "test", 40),)
