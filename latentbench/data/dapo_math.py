"""DAPO-Math-17k, deduplicated (arXiv 2503.14476): competition problems with integer answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._overlap import normalise
from latentbench.data._published import File, HubSplit, Published, of_fields
from latentbench.data._rows import gold, make_item, text
from latentbench.errors import InputError
from latentbench.records import Item, content_uid

_UIDS = 2**63


def parse(record: Mapping[str, Any], where: str) -> Item | None:
    """A published row as a question and its gold. Raises InputError, which begins with `where`."""
    return make_item(text(record, where, "prompt"), (), gold(record, where, "solution"), where)


@dataclass(frozen=True)
class DapoMath(Published):
    """14,116 English problems for training; they come without steps and without a test set.

    A share `held_out` of them is held out, half for validation and half for test, by the hash of
    the question: whatever else is asked for, a problem stays in its split, and a larger share only
    takes more. Raises InputError for a share outside (0, 1).
    """

    name: str = "dapo_math"
    hub: str | None = "open-r1/DAPO-Math-17k-Processed"
    revision: str = "31dd309567e3da778038cc87d868b6097a3ccf68"
    held_out: float = 0.1

    grader: ClassVar[str | None] = "math_verify"
    files: ClassVar[tuple[File, ...]] = (
        File(
            "dapo_math/train.jsonl",
            "train",
            "open-r1/DAPO-Math-17k-Processed on the Hugging Face hub : en",
            of_fields(parse),
        ),
    )
    hub_splits: ClassVar[tuple[HubSplit, ...]] = (
        HubSplit("train", of_fields(parse), "train", 14_116, "en"),
    )

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise InputError(f"data.held_out={self.held_out}: a share lies in (0, 1), e.g. 0.1")

    def parts_of(self, splits: Collection[str]) -> Collection[str]:
        return ("train",)

    def arranged(self, items: dict[str, list[Item]]) -> dict[str, list[Item]]:
        parts: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
        for item in items["train"]:
            # Copies of a question that differ in case or blanks stay together.
            uid = content_uid(normalise(item.question))
            held_out = uid < self.held_out * _UIDS
            split = ("validation", "test")[uid % 2] if held_out else "train"
            parts[split].append(item)
        return parts
