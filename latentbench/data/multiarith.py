"""MultiArith (Roy and Roth 2015): word problems of two or more operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, File, HubSplit, Published, of_fields
from latentbench.data._rows import gold, make_item, text
from latentbench.records import Item


def parse(record: Mapping[str, Any], where: str) -> Item | None:
    """A published row as a question and its gold. Raises InputError, which begins with `where`."""
    question = text(record, where, "input", "question")
    return make_item(question, (), gold(record, where, "target", "final_ans"), where)


@dataclass(frozen=True)
class MultiArith(Published):
    """600 questions with numeric answers. Some stand there twice with one answer; each counts once,
    and the provenance says how many were left out."""

    name: str = "multiarith"
    hub: str | None = "ChilleD/MultiArith"
    revision: str = "144d44c3fb87c0b9097ac9593c789e716a282e3e"

    grader: ClassVar[str] = "exact_number"
    files: ClassVar[tuple[File, ...]] = (
        File(
            "multiarith/test.jsonl",
            "test",
            "reasoning-machines/pal @ f81ca2a9777f002f98a6b4d0f10b61bd5c8feb02 : "
            "datasets/mawpsmultiarith.jsonl",
            of_fields(parse),
            (
                Edition(600, None, "full"),
                Edition(
                    420,
                    "456a01fa91bed18f71a617a65cea1cf4e66e13be8bf888fac8c89a527bbb2a04",
                    "70 % subset",
                ),
            ),
        ),
    )
    hub_splits: ClassVar[tuple[HubSplit, ...]] = (
        HubSplit("test", of_fields(parse), "train+test", 600),
    )
