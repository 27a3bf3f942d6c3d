"""AIME 2024, papers I and II: 30 competition problems with integer answers."""

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
    return make_item(text(record, where, "problem"), (), answer, where)


@dataclass(frozen=True)
class Aime2024(Published):
    """30 problems; the answer is an integer from 0 to 999, on the hub boxed in the solution."""

    name: str = "aime2024"
    hub: str | None = "math-ai/aime24"
    revision: str = "83a7f387baaa524a8bda0022eac0541582297103"

    grader: ClassVar[str] = "math_verify"
    files: ClassVar[tuple[File, ...]] = (
        File(
            "aime2024/test.jsonl",
            "test",
            "QwenLM/Qwen2.5-Math @ a45202bd16f1ec06f433442dc1152d0074773465 : "
            "evaluation/data/aime24/test.jsonl",
            of_fields(parse),
            (Edition(30, "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac"),),
        ),
    )
    hub_splits: ClassVar[tuple[HubSplit, ...]] = (HubSplit("test", of_fields(parse), "test", 30),)
