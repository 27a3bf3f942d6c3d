"""MATH-500 (arXiv 2305.20050): 500 held-out problems of MATH, answers in LaTeX."""

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
class Math500(Published):
    """500 problems of seven subjects; 175 answers are not plain numbers."""

    name: str = "math500"
    hub: str | None = "HuggingFaceH4/MATH-500"
    revision: str = "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be"

    grader: ClassVar[str] = "math_verify"
    files: ClassVar[tuple[File, ...]] = (
        File(
            "math500/test.jsonl",
            "test",
            "zhshgmail/AReaL @ 04ab6018c4ef43919348efdc52ba6b679a14ce88 : "
            "evaluation/data/math_500/test.jsonl",
            of_fields(parse),
            (Edition(500, "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132"),),
        ),
    )
    hub_splits: ClassVar[tuple[HubSplit, ...]] = (HubSplit("test", of_fields(parse), "test", 500),)
