"""Chains of digits modulo a small number, worked out from left to right: what their generators
share."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

import numpy as np

from latentbench.data import DataSet
from latentbench.data._generated import PART_OF, as_splits, fill, split_of
from latentbench.errors import InputError
from latentbench.records import SPLITS, Item, Splits, Template

OPERATORS = "+-"
EQUATION = "<{value}{operator}{digit}={result}>"
RESULT = "{result}"

# Draws come in blocks of one fixed size with a generator each: the stream of problems is the same
# however much of it is read.
_BLOCK = 4096
_LONGEST = 100
# Up to here chance alone could leave a split far below its share.
_ALWAYS_COUNTED = 20_000
# Sets these streams apart from others that start from the same small seed.
_STREAM = 0x617269


def solve(
    digits: Sequence[int], operators: Sequence[str], modulus: int, step: str = EQUATION
) -> Item:
    """The problem as text with its steps, worked out from left to right."""
    value, steps, question = digits[0], [], [str(digits[0])]
    for operator, digit in zip(operators, digits[1:], strict=True):
        result = (value + digit if operator == "+" else value - digit) % modulus
        steps.append(step.format(value=value, operator=operator, digit=digit, result=result))
        question.append(f"{operator}{digit}")
        value = result
    return Item("".join(question) + "=", tuple(steps), str(value))


@dataclass(frozen=True)
class Chains(DataSet):
    """Chains of digits and operators, with a written step for each operator.

    `lengths` is a mix: the number of operators of a problem is drawn uniformly from this list.
    Problems are distinct, so once the short ones are used up the longer ones take their place; the
    provenance says how many of each length a split holds. A problem belongs to a split by the hash
    of its text and the seed: another n_train, n_validation or n_test only makes that split longer
    or shorter. Raises InputError for knobs that cannot work and, in `load`, for splits larger than
    the space of problems.
    """

    name: str = ""
    seed: int = 0
    lengths: list[int] = field(default_factory=lambda: [2])
    n_train: int = 6000
    n_validation: int = 500
    n_test: int = 1000
    operators: str = OPERATORS
    modulus: int = 10

    template: ClassVar[Template] = Template(question_end="", step_end="", answer_start="#")
    grader: ClassVar[str | None] = "exact_number"
    step: ClassVar[str] = EQUATION

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"data.seed={self.seed}: must be 0 or larger")
        if not self.lengths or min(self.lengths) < 1:
            raise InputError(
                f"data.lengths={list(self.lengths)}: give one or more numbers of operators, "
                "each at least 1, e.g. data.lengths=[2,3]"
            )
        if max(self.lengths) > _LONGEST:
            raise InputError(
                f"data.lengths={list(self.lengths)}: at most {_LONGEST} operators each"
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

    def load(self, splits: Collection[str] = SPLITS) -> Splits:
        """The splits asked for, the same for the same knobs in every process and on every machine;
        the others are empty."""
        self._check_space()
        sizes = {name: size if name in splits else 0 for name, size in self._sizes().items()}
        # Every problem that is needed exists, so it turns up, however long that takes.
        items = fill(self.stream(), sizes, lambda item: item.question, "", patience=sys.maxsize)
        return as_splits(items, self.seed)

    def stream(self) -> Iterator[tuple[str, Item]]:
        """Problems with the split that they belong to, without end and with repetitions."""
        for digits, operators in self._draws():
            item = solve(digits, operators, self.modulus, self.step)
            yield split_of(self.seed, item.question), item

    def space(self) -> int:
        """How many distinct problems exist with these knobs."""
        return sum(
            self.modulus ** (length + 1) * len(self.operators) ** length
            for length in set(self.lengths)
        )

    def _sizes(self) -> dict[str, int]:
        return {"train": self.n_train, "validation": self.n_validation, "test": self.n_test}

    def _check_space(self) -> None:
        """Refuse sizes that the space cannot fill, so that drawing always comes to an end.

        Counting the problems of each split takes time and is only needed in a small space: in a
        large one a split of a quarter of its expected share is there for certain.
        """
        space, sizes = self.space(), self._sizes()
        for split, size in sizes.items():
            if size > space:
                self._refuse(split, f"only {space} distinct problems exist")
        shares = {split: PART_OF.count(split) / len(PART_OF) for split in SPLITS}
        tight = any(4 * n > space * shares[split] for split, n in sizes.items())
        if tight or space <= _ALWAYS_COUNTED:
            found = Counter(split_of(self.seed, item.question) for item in self._every_problem())
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
                    yield solve(digits, operators, self.modulus, self.step)

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
