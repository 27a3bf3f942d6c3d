"""AIME 2025, papers I and II: 30 competition problems with integer answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, File, HubSplit, Published, of_fields
from latentbench.data._rows import gold, make_item, text
from latentbench.records import Item


def parse(record: Mapping[str, Any], where: str) -> Item | None:
    """A published row as a question and its gold. Raises InputError, which begins with `where`."""
    return make_item(text(record, where, "problem"), (), gold(record, where, "answer"), where)


@dataclass(frozen=True)
class Aime2025(Published):
    """30 problems; the answer is an integer from 0 to 999."""

    name: str = "aime2025"
    hub: str | None = "math-ai/aime25"
    revision: str = "563bb8404243c5f09de6ec262f2db674fe5bce9b"

    grader: ClassVar[str] = "math_verify"
    files: ClassVar[tuple[File, ...]] = (
        File(
            "aime2025/test.jsonl",
            "test",
            "zhshgmail/AReaL @ 04ab6018c4ef43919348efdc52ba6b679a14ce88 : "
            "evaluation/data/aime25/test.jsonl",
            of_fields(parse),
            (Edition(30, "b4e273c02d3e7fe1b74b59eae768fc8230bfb0f79539890cb56f4361caac0331"),),
        ),
    )
    hub_splits: ClassVar[tuple[HubSplit, ...]] = (HubSplit("test", of_fields(parse), "test", 30),)
