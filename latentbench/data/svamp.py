"""SVAMP (arXiv 2103.07191): elementary word problems in varied wording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, File, HubSplit, Published, of_fields
from latentbench.data._rows import gold, make_item, text
from latentbench.records import Item


def parse(record: Mapping[str, Any], where: str) -> Item | None:
    """A published row as a question and its gold. Raises InputError, which begins with `where`."""
    question = f"{text(record, where, 'Body').strip()} {text(record, where, 'Question').strip()}"
    return make_item(question, (), gold(record, where, "Answer"), where)


@dataclass(frozen=True)
class Svamp(Published):
    """1,000 questions, each the body and then the question; numeric answers."""

    name: str = "svamp"
    hub: str | None = "ChilleD/SVAMP"
    revision: str = "5e0bf1e5e7c0e9c4bc39180d224f41f3f801b7ef"

    grader: ClassVar[str] = "exact_number"
    files: ClassVar[tuple[File, ...]] = (
        File(
            "svamp/test.jsonl",
            "test",
            "arkilpatel/SVAMP @ 689d7ccac74b9983a2ac7cc3b264f441b99e7c53 : SVAMP.json",
            of_fields(parse),
            (
                Edition(1000, None, "full"),
                Edition(
                    700,
                    "d5fc85edbbec604a4a7adfae3d41e3fd340f58f812da9ad1748490eb3dd15996",
                    "70 % subset",
                ),
            ),
        ),
    )
    hub_splits: ClassVar[tuple[HubSplit, ...]] = (
        HubSplit("test", of_fields(parse), "train+test", 1000),
    )
