"""What the generators share: which split a problem belongs to, and splits of distinct problems."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from latentbench.data import DataSet
from latentbench.data._overlap import check_disjoint, splits_digest
from latentbench.errors import InputError
from latentbench.records import SPLITS, Item, Splits, content_uid

T = TypeVar("T")

# Of 15 parts of all problems 12 may train, 1 validate and 2 test. The parts do not follow the
# sizes asked for, or a larger n_train would move problems.
PART_OF = ("validation", "test", "test", *["train"] * 12)
# Draws in a row that add nothing to a split before its problems count as used up.
_PATIENCE = 20_000
# What the files of a logic set are called after its name, as published.
_FILES = {"train": "train", "validation": "valid", "test": "test"}


def split_of(seed: int, content: str) -> str:
    """The split that a problem belongs to, by its content and the seed alone."""
    return PART_OF[content_uid(f"{seed} {content}") % len(PART_OF)]


def fill(
    stream: Iterable[tuple[str, T]],
    sizes: Mapping[str, int],
    question: Callable[[T], str],
    way_out: str,
    patience: int = _PATIENCE,
) -> dict[str, list[T]]:
    """Distinct problems for each split from an endless stream of (split, problem).

    A split's first problems depend on no size. Raises InputError, which ends with `way_out`, where
    a split finds no new problem in `patience` draws.
    """
    pools: dict[str, dict[str, T]] = {split: {} for split in SPLITS}
    grown: dict[str, int] = dict.fromkeys(SPLITS, 0)
    for count, (split, problem) in enumerate(stream):
        pool = pools[split]
        if len(pool) < sizes[split] and question(problem) not in pool:
            pool[question(problem)] = problem
            grown[split] = count
            if all(len(pools[name]) == sizes[name] for name in SPLITS):
                break
        for name, since in grown.items():
            if len(pools[name]) < sizes[name] and count - since > patience:
                raise InputError(
                    f"data.n_{name}={sizes[name]}: only {len(pools[name])} distinct problems were "
                    f"found for this split; {way_out}"
                )
    return {split: list(pool.values()) for split, pool in pools.items()}


def as_splits(items: Mapping[str, Sequence[Item]], seed: int) -> Splits:
    """Generated items as splits, checked to be disjoint, with their provenance."""
    splits = Splits(items["train"], items["validation"], items["test"])
    check_disjoint(splits)
    provenance = {
        "source": "generator",
        "seed": seed,
        "counts": {name: len(items[name]) for name in SPLITS},
        "counts_by_steps": {name: _by_steps(items[name]) for name in SPLITS},
        "digest": splits_digest(splits),
    }
    return Splits(splits.train, splits.validation, splits.test, provenance)


def _by_steps(items: Sequence[Item]) -> dict[str, int]:
    counts = Counter(len(item.steps) for item in items)
    return {str(length): counts[length] for length in sorted(counts)}


@dataclass(frozen=True)
class LogicGenerator(DataSet):
    """What ProsQA and ProntoQA made anew have in common: records in the published fields.

    Raises InputError for knobs that cannot work and, in `load`, for sizes beyond the distinct
    problems that turn up.
    """

    name: str = ""
    seed: int = 0
    n_train: int = 1
    n_validation: int = 1
    n_test: int = 1

    grader: ClassVar[str | None] = "exact_string"
    way_out: ClassVar[str] = "lower it"

    def __post_init__(self) -> None:
        sizes = {f"n_{split}": (1, 10**9) for split in SPLITS}
        for key, (low, high) in ({"seed": (0, 2**32 - 1)} | self.ranges() | sizes).items():
            if not low <= getattr(self, key) <= high:
                raise InputError(f"data.{key}={getattr(self, key)}: must be {low} to {high} here")

    def ranges(self) -> dict[str, tuple[int, int]]:
        """The least and the largest value of each knob of its own."""
        raise NotImplementedError

    def records(self) -> Iterator[dict[str, Any]]:
        """Problems in the published fields, without end."""
        raise NotImplementedError

    def stream(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Records with the split that they belong to, without end."""
        for record in self.records():
            yield split_of(self.seed, record["question"]), record

    def load(self, splits: Collection[str] = SPLITS) -> Splits:
        """The splits asked for, the same for the same knobs in every process and on every machine;
        the others are empty."""
        pools = self._filled(splits)
        return as_splits({name: [item_of(r) for r in pools[name]] for name in SPLITS}, self.seed)

    def write(self, directory: str | Path) -> None:
        """The three splits as JSON files in the published fields, in a directory that exists."""
        stem = self.name.removesuffix("_gen")
        for split, records in self._filled(SPLITS).items():
            (Path(directory) / f"{stem}_{_FILES[split]}.json").write_text(json.dumps(records))

    def _filled(self, splits: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        sizes = {name: getattr(self, f"n_{name}") if name in splits else 0 for name in SPLITS}
        return fill(self.stream(), sizes, lambda record: record["question"], self.way_out)


def item_of(record: Mapping[str, Any]) -> Item:
    """A record as an item, with its three texts as they are."""
    return Item(record["question"], tuple(record["steps"]), record["answer"])
