"""ASDiv-A (arXiv 2106.15772): the arithmetic part of the ASDiv word problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, PublishedQuestions, full_or_part
from latentbench.data._rows import gold, make_item, text
from latentbench.records import Item


@dataclass(frozen=True)
class AsdivA(PublishedQuestions):
    """1,218 questions, each the body and then the question; the unit in brackets after an answer,
    `9 (apples)`, is no part of it. As a file: one JSON object per problem with the element names
    of the published XML. CC BY-NC 4.0."""

    name: str = "asdiv_a"
    hub: str | None = "MU-NLPC/Calc-asdiv_a"
    revision: str = "520a6910e097ee287ecd2bb9104f7f45805f9df9"

    grader: ClassVar[str | None] = "exact_number"
    origin: ClassVar[str] = (
        "chaochun/nlu-asdiv-dataset @ 883f90a9a65bf00304ba8f37423910fe743abc47 : dataset/ASDiv.xml"
    )
    editions: ClassVar[tuple[Edition, ...]] = full_or_part(
        1218, 853, "ac87fed51e956802d3d004faacc62bb1dfe83180b49064fa5f89a35aafd49fc7"
    )

    @classmethod
    def parse(cls, record: Mapping[str, Any], where: str) -> Item | None:
        if "Body" in record:
            parts = (text(record, where, name).strip() for name in ("Body", "Question"))
            question = " ".join(parts)
        else:
            question = text(record, where, "question")
        answer = gold(record, where, "Answer", "result").partition("(")[0]
        return make_item(question, (), answer, where)
