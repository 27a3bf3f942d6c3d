"""GSM-Hard (arXiv 2211.10435): GSM8K test questions with large numbers in place of small ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, File, HubSplit, Published, of_fields
from latentbench.data._rows import gold, make_item, text
from latentbench.records import Item


def parse(record: Mapping[str, Any], where: str) -> Item | None:
    """A published row as a question and its gold. Raises InputError, which begins with `where`."""
    return make_item(text(record, where, "input"), (), gold(record, where, "target"), where)


@dataclass(frozen=True)
class GsmHard(Published):
    """1,319 questions; targets are floats, also negative and above 1e6, so they are graded within a
    relative tolerance. Many questions are unchanged GSM8K test questions. The published `code`
    of a row is never run."""

    name: str = "gsm_hard"
    hub: str | None = "reasoning-machines/gsm-hard"
    revision: str = "960448f73503112d4226baeb8eb41d3fb5ae2506"

    grader: ClassVar[str] = "tolerance"
    files: ClassVar[tuple[File, ...]] = (
        File(
            "gsm_hard/test.jsonl",
            "test",
            "reasoning-machines/pal @ f81ca2a9777f002f98a6b4d0f10b61bd5c8feb02 : "
            "datasets/gsmhardv2.jsonl",
            of_fields(parse),
            (
                Edition(1319, None, "full"),
                Edition(
                    923,
                    "b6028967a6dc01b838a6878192d4ba1d960286bdf1e5c94e5e7fe04941c1b04f",
                    "70 % subset",
                ),
            ),
        ),
    )
    hub_splits: ClassVar[tuple[HubSplit, ...]] = (
        HubSplit("test", of_fields(parse), "train", 1319),
    )
