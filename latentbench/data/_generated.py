"""What the generators share: which split a problem belongs to, and splits of distinct problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from latentbench.data._overlap import SPLITS, check_disjoint, splits_digest
from latentbench.errors import InputError
from latentbench.records import Item, Splits, content_uid

T = TypeVar("T")

# Of 15 parts of all problems 12 may train, 1 validate and 2 test, whatever the sizes asked for.
_PARTS = 15
_PART_OF = ("validation", "test", "test", *["train"] * 12)
# Draws in a row that add nothing to a split before its problems count as used up.
_PATIENCE = 20_000


def split_of(seed: int, content: str) -> str:
    """The split that a problem belongs to, by its content and the seed alone."""
    return _PART_OF[content_uid(f"{seed} {content}") % _PARTS]


def fill(
    stream: Iterable[tuple[str, T]],
    sizes: Mapping[str, int],
    question: Callable[[T], str],
    way_out: str,
) -> dict[str, list[T]]:
    """Distinct problems for each split from an endless stream of (split, problem).

    A split's first problems depend on no size. Raises InputError, which ends with `way_out`, where
    a split finds no new problem for a long time.
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
            if len(pools[name]) < sizes[name] and count - since > _PATIENCE:
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
