"""Chain arithmetic modulo a small number: a task a tiny model learns, without any download."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

import numpy as np

from latentbench.data._overlap import SPLITS, check_disjoint, splits_digest
from latentbench.errors import InputError
from latentbench.records import Item, Splits, Template, content_uid

OPERATORS = "+-"

# Of 15 parts of all problems 12 may train, 1 validate and 2 test. The parts do not follow the
# sizes asked for, or a larger n_train would move problems; they equal the default sizes, so that
# by default all three splits use up the same share of the short problems and have the same mix of
# lengths.
_PARTS = 15
_PART_OF = ("validation", "test", "test", *["train"] * 12)
# Draws come in blocks of one fixed size with a generator each: the stream of problems is the same
# however much of it is read.
_BLOCK = 4096
# Up to here chance alone could leave a split far below its share.
_ALWAYS_COUNTED = 20_000
# Sets these streams apart from others that start from the same small seed.
_STREAM = 0x617269


def solve(digits: Sequence[int], operators: Sequence[str], modulus: int) -> Item:
    """The problem as text with its steps, worked out from left to right."""
    value, steps, question = digits[0], [], [str(digits[0])]
    for operator, digit in zip(operators, digits[1:], strict=True):
        result = (value + digit if operator == "+" else value - digit) % modulus
        steps.append(f"<{value}{operator}{digit}={result}>")
        question.append(f"{operator}{digit}")
        value = result
    return Item("".join(question) + "=", tuple(steps), str(value))


@dataclass(frozen=True)
class Arithmetic:
    """Chains like `3+4-9=` with steps `<3+4=7>` `<7-9=8>` and the answer `8`, modulo `modulus`.

    `lengths` is a mix: the number of operators of a problem is drawn uniformly from this list.
    Problems are distinct, so once the short ones are used up the longer ones take their place; the
    provenance says how many of each length a split holds. A problem belongs to a split by the hash
    of its text and the seed: another n_train, n_validation or n_test only makes that split longer
    or shorter. Raises InputError for knobs that cannot work and, in `load`, for splits larger than
    the space of problems.
    """

    name: str = "arithmetic"
    seed: int = 0
    lengths: list[int] = field(default_factory=lambda: [2, 2, 3])
    n_train: int = 6000
    n_validation: int = 500
    n_test: int = 1000
    operators: str = OPERATORS
    modulus: int = 10

    template: ClassVar[Template] = Template(question_end="", step_end="", answer_start="#")
    grader: ClassVar[str] = "exact_number"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"data.seed={self.seed}: must be 0 or larger")
        if not self.lengths or min(self.lengths) < 1:
            raise InputError(
                f"data.lengths={list(self.lengths)}: give one or more numbers of operators, "
                "each at least 1, e.g. data.lengths=[2,3]"
            )
        for split, size in self._sizes().items():
            if size < 1:
                raise InputError(f"data.n_{split}={size}: must be at least 1")
        known = set(self.operators) <= set(OPERATORS)
        if not self.operators or not known or len(set(self.operators)) < len(self.operators):
            raise InputError(f"data.operators={self.operators!r}: must be one of '+', '-', '+-'")
        if not 2 <= self.modulus <= 10:
            raise InputError(
                f"data.modulus={self.modulus}: must be 2 to 10, so that every number is one digit"
            )

    def load(self) -> Splits:
        """The three splits, the same for the same knobs in every process and on every machine."""
        self._check_space()
        pools = self._fill()
        splits = Splits(train=pools["train"], validation=pools["validation"], test=pools["test"])
        check_disjoint(splits)
        provenance = {
            "source": "generator",
            "seed": self.seed,
            "counts": self._sizes(),
            "counts_by_length": {name: _by_length(pools[name]) for name in SPLITS},
            "digest": splits_digest(splits),
        }
        return Splits(splits.train, splits.validation, splits.test, provenance)

    def space(self) -> int:
        """How many distinct problems exist with these knobs."""
        return sum(
            self.modulus ** (length + 1) * len(self.operators) ** length
            for length in set(self.lengths)
        )

    def _sizes(self) -> dict[str, int]:
        return {"train": self.n_train, "validation": self.n_validation, "test": self.n_test}

    def _split_of(self, question: str) -> str:
        return _PART_OF[content_uid(f"{self.seed} {question}") % _PARTS]

    def _check_space(self) -> None:
        """Refuse sizes that the space cannot fill, so that drawing always comes to an end.

        Counting the problems of each split takes time and is only needed in a small space: in a
        large one a split of a quarter of its expected share is there for certain.
        """
        space, sizes = self.space(), self._sizes()
        for split, size in sizes.items():
            if size > space:
                self._refuse(split, f"only {space} distinct problems exist")
        tight = any(4 * _PARTS * n > space * _PART_OF.count(split) for split, n in sizes.items())
        if tight or space <= _ALWAYS_COUNTED:
            found = Counter(self._split_of(item.question) for item in self._every_problem())
            for split, size in sizes.items():
                if size > found[split]:
                    which = f"only {found[split]} of the {space} distinct problems that exist"
                    self._refuse(split, f"{which} belong to this split")

    def _refuse(self, split: str, reason: str) -> None:
        raise InputError(
            f"data.n_{split}={self._sizes()[split]}: {reason} with "
            f"data.lengths={list(self.lengths)}, data.operators={self.operators!r} and "
            f"data.modulus={self.modulus}; lower data.n_{split} or add a longer length"
        )

    def _every_problem(self) -> Iterator[Item]:
        for length in sorted(set(self.lengths)):
            for operators in product(self.operators, repeat=length):
                for digits in product(range(self.modulus), repeat=length + 1):
                    yield solve(digits, operators, self.modulus)

    def _fill(self) -> dict[str, list[Item]]:
        """Draw until each split is full; a split's first problems do not depend on any size."""
        sizes = self._sizes()
        pools: dict[str, list[Item]] = {split: [] for split in SPLITS}
        seen: set[tuple[tuple[int, ...], tuple[str, ...]]] = set()
        for digits, operators in self._draws():
            if (digits, operators) in seen:
                continue
            seen.add((digits, operators))
            item = solve(digits, operators, self.modulus)
            pool = pools[split := self._split_of(item.question)]
            if len(pool) < sizes[split]:
                pool.append(item)
                if all(len(pools[name]) == sizes[name] for name in SPLITS):
                    break
        return pools

    def _draws(self) -> Iterator[tuple[tuple[int, ...], tuple[str, ...]]]:
        """Problems as (digits, operators), without end and with repetitions."""
        longest, block = max(self.lengths), 0
        while True:
            seeds = np.random.SeedSequence([self.seed, _STREAM, block])
            generator = np.random.Generator(np.random.Philox(seeds))
            lengths = generator.choice(list(self.lengths), size=_BLOCK).tolist()
            digits = generator.integers(self.modulus, size=(_BLOCK, longest + 1)).tolist()
            signs = generator.integers(len(self.operators), size=(_BLOCK, longest)).tolist()
            for length, row, sign in zip(lengths, digits, signs, strict=True):
                operators = tuple(self.operators[index] for index in sign[:length])
                yield tuple(row[: length + 1]), operators
            block += 1


def _by_length(items: Sequence[Item]) -> dict[str, int]:
    counts = Counter(len(item.steps) for item in items)
    return {str(length): counts[length] for length in sorted(counts)}
