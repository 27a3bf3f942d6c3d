"""GSM-Plus (arXiv 2402.19255): eight variations of every GSM8K test question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, PublishedQuestions
from latentbench.records import Item


@dataclass(frozen=True)
class GsmPlus(PublishedQuestions):
    """10,552 rows, or 2,400 as `testmini`. Those of the kind `critical thinking` lack what is
    needed and have no answer: they are left out, and the provenance counts them."""

    name: str = "gsm_plus"
    hub: str | None = "qintongli/GSM-Plus"
    revision: str = "3b708db57b96a16e8e3368ed2956990c0809440e"

    grader: ClassVar[str | None] = "exact_number"
    origin: ClassVar[str] = "qintongli/GSM-Plus on the Hugging Face hub : test"
    editions: ClassVar[tuple[Edition, ...]] = (
        Edition(10552, None, "full"),
        Edition(2400, None, "testmini"),
    )

    @classmethod
    def parse(cls, record: Mapping[str, Any], where: str) -> Item | None:
        lacking = record.get("perturbation_type") == "critical thinking"
        if lacking or record.get("answer") == "None":
            return None
        return super().parse(record, where)
