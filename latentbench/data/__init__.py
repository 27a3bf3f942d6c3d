"""Data sets: problems with their worked steps and answers. One file each."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Protocol

from latentbench.records import SPLITS, Item, Splits, Template


class DataSet(Protocol):
    """What a data set has; a subclass takes over what is written out here.

    `template` says how a problem becomes text, `grader` names the reward of its answers as a
    benchmark (None: the run's own). `root` is where its files lie, for one that reads files.
    """

    template: ClassVar[Template] = Template()
    grader: ClassVar[str | None] = None
    name: str
    root: str | None = None

    def load(self, splits: Collection[str] = SPLITS) -> Splits:
        """The problems of these splits, with their provenance. Raises InputError."""
        ...

    def place_of(self, item: Item) -> str | None:
        """The file and row that an item was read from; None for one that was made."""
        return None
