"""SVAMP (arXiv 2103.07191): elementary word problems in varied wording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, PublishedQuestions, full_or_part
from latentbench.data._rows import gold, make_item, text
from latentbench.records import Item


@dataclass(frozen=True)
class Svamp(PublishedQuestions):
    """1,000 questions, each the body and then the question; numeric answers."""

    name: str = "svamp"
    hub: str | None = "ChilleD/SVAMP"
    revision: str = "5e0bf1e5e7c0e9c4bc39180d224f41f3f801b7ef"

    grader: ClassVar[str | None] = "exact_number"
    origin: ClassVar[str] = (
        "arkilpatel/SVAMP @ 689d7ccac74b9983a2ac7cc3b264f441b99e7c53 : SVAMP.json"
    )
    editions: ClassVar[tuple[Edition, ...]] = full_or_part(
        1000, 700, "d5fc85edbbec604a4a7adfae3d41e3fd340f58f812da9ad1748490eb3dd15996"
    )
    hub_split: ClassVar[str] = "train+test"

    @classmethod
    def parse(cls, record: Mapping[str, Any], where: str) -> Item | None:
        parts = (text(record, where, name).strip() for name in ("Body", "Question"))
        return make_item(" ".join(parts), (), gold(record, where, "Answer"), where)
