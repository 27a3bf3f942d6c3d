"""GPQA (arXiv 2311.12022): multiple-choice questions of biology, physics and chemistry; gated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, File, HubSplit, Published, of_fields
from latentbench.data._rows import make_item, text
from latentbench.errors import InputError
from latentbench.records import Item, content_uid

SUBSETS = {"diamond": 198, "main": 448, "extended": 546}
_LETTERS = "ABCD"
_OPTIONS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def parse(record: Mapping[str, Any], where: str) -> Item | None:
    """The question with its four options; the answer is a letter.

    The order of the options follows from the text of the question and of the options alone: the
    same in every file, run and machine, and of no use to who knows the published order.
    """
    question, *options = (text(record, where, name).strip() for name in ("Question", *_OPTIONS))
    if not all((question, *options)):
        raise InputError(f"{where}: the question or an option is empty; copy the file again")
    shuffled = sorted(options, key=lambda option: content_uid(f"{question}\x1f{option}"))
    lines = [f"({letter}) {option}" for letter, option in zip(_LETTERS, shuffled, strict=True)]
    answer = _LETTERS[shuffled.index(options[0])]
    return make_item("\n".join((question, *lines)), (), answer, where)


def _file(subset: str) -> File:
    origin = f"idavidrein/gpqa : dataset.zip, gpqa_{subset}.csv"
    editions = (Edition(SUBSETS[subset], label=subset),)
    return File(f"gpqa/gpqa_{subset}.csv", "test", origin, of_fields(parse), editions)


@dataclass(frozen=True)
class Gpqa(Published):
    """198 questions (`subset=diamond`), 448 (`main`) or 546 (`extended`); the sets are nested.

    On the hub it is given only to accounts that accepted its terms. Raises InputError for another
    subset.
    """

    name: str = "gpqa"
    hub: str | None = "Idavidrein/gpqa"
    revision: str = "633f5ee89ab8ad4522a9f850766b73f62147ffdd"
    subset: str = "diamond"

    grader: ClassVar[str | None] = "choice"
    files: ClassVar[tuple[File, ...]] = tuple(_file(subset) for subset in SUBSETS)

    def __post_init__(self) -> None:
        if self.subset not in SUBSETS:
            raise InputError(f"data.subset={self.subset}: choose one of {', '.join(SUBSETS)}")

    def chosen_files(self) -> tuple[File, ...]:
        return (_file(self.subset),)

    def chosen_hub_splits(self) -> tuple[HubSplit, ...]:
        rows, config = SUBSETS[self.subset], f"gpqa_{self.subset}"
        return (HubSplit("test", of_fields(parse), "train", rows, config),)
