"""GSM-Plus (arXiv 2402.19255): eight variations of every GSM8K test question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, File, HubSplit, Published, of_fields
from latentbench.data._rows import gold, make_item, text
from latentbench.records import Item


def parse(record: Mapping[str, Any], where: str) -> Item | None:
    """A published row as a question and its gold. Raises InputError, which begins with `where`."""
    if record.get("perturbation_type") == "critical thinking" or record.get("answer") == "None":
        return None
    return make_item(text(record, where, "question"), (), gold(record, where, "answer"), where)


@dataclass(frozen=True)
class GsmPlus(Published):
    """10,552 rows, or 2,400 as `testmini`. Those of the kind `critical thinking` lack what is
    needed and have no answer: they are left out, and the provenance counts them."""

    name: str = "gsm_plus"
    hub: str | None = "qintongli/GSM-Plus"
    revision: str = "3b708db57b96a16e8e3368ed2956990c0809440e"

    grader: ClassVar[str] = "exact_number"
    files: ClassVar[tuple[File, ...]] = (
        File(
            "gsm_plus/test.jsonl",
            "test",
            "qintongli/GSM-Plus on the Hugging Face hub : test",
            of_fields(parse),
            (
                Edition(10552, None, "full"),
                Edition(2400, None, "testmini"),
            ),
        ),
    )
    hub_splits: ClassVar[tuple[HubSplit, ...]] = (
        HubSplit("test", of_fields(parse), "test", 10552),
    )
