"""OlympiadBench (arXiv 2402.14008): the text-only English competition mathematics part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, PublishedQuestions
from latentbench.data._rows import make_item, text, texts
from latentbench.records import Item


@dataclass(frozen=True)
class OlympiadBench(PublishedQuestions):
    """675 problems in the file, 674 on the hub. A problem with several answers has all of them in
    its gold, parted by commas, without dollar signs: an answer is right when it gives them all.
    The published `unit` is no part of it."""

    name: str = "olympiadbench"
    hub: str | None = "Hothan/OlympiadBench"
    revision: str = "91184b52131e7fc9455fef848035173aea8cc01a"

    grader: ClassVar[str | None] = "math_verify"
    origin: ClassVar[str] = (
        "QwenLM/Qwen2.5-Math @ a45202bd16f1ec06f433442dc1152d0074773465 : "
        "evaluation/data/olympiadbench/test.jsonl"
    )
    editions: ClassVar[tuple[Edition, ...]] = (
        Edition(675, "bb8c1e38a16ea9eacb77530315a674d883f267fbff79183effc53681b4fcc416"),
    )
    hub_split: ClassVar[str] = "train"
    hub_rows: ClassVar[int | None] = 674
    hub_config: ClassVar[str | None] = "OE_TO_maths_en_COMP"

    @classmethod
    def parse(cls, record: Mapping[str, Any], where: str) -> Item | None:
        answer = ", ".join(texts(record, where, "final_answer")).replace("$", "")
        return make_item(text(record, where, "question"), (), answer, where)
