"""Word problems in the style of GSM8K, without any download: who has how many of what."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import add, floordiv, mul, sub
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from latentbench.data import DataSet
from latentbench.data._generated import as_splits, fill, split_of
from latentbench.data._words import NAMES, OBJECTS
from latentbench.errors import InputError
from latentbench.records import SPLITS, Item, Splits

OPERATORS = "+-*/&"
MOST_STEPS = 8
MOST_PHRASINGS = 3

# Uniform numbers are drawn for so many problems at once.
_BLOCK = 1024
# Sets these streams apart from others that start from the same small seed.
_STREAM = 0x776F7264
_FILES = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}
_OPERATION = {"+": add, "-": sub, "*": mul, "/": floordiv}
_FRACTIONS = {2: "half", 3: "a third", 4: "a quarter"}


# How each relation may be told. The third of `+`, `-` and `/` tells it from the other end.
_PHRASINGS = {
    "=": (
        "{who} has {n} {counted}.",
        "{who} owns {n} {counted}.",
        "The bag of {who} holds {n} {counted}.",
    ),
    "+": (
        "{who} has {n} more {counted} than {one}.",
        "{who} has as many {things} as {one} and {n} more.",
        "{one} has {n} fewer {counted} than {who}.",
    ),
    "-": (
        "{who} has {n} fewer {counted} than {one}.",
        "{who} has as many {things} as {one} but {n} fewer.",
        "{one} has {n} more {counted} than {who}.",
    ),
    "*": (
        "{who} has {times} as many {things} as {one}.",
        "{who} has {n} times the number of {things} that {one} has.",
        "For each {thing} of {one} there are {n} of {who}.",
    ),
    "/": (
        "{who} has {part} as many {things} as {one}.",
        "{who} has {part} of the number of {things} that {one} has.",
        "{one} has {times} as many {things} as {who}.",
    ),
    "&": (
        "{who} has as many {things} as {one} and {other} together.",
        "{one} and {other} together have as many {things} as {who}.",
        "{who} has the number of {things} that {one} and {other} have together.",
    ),
}


class _Fact(NamedTuple):
    """One sentence: person `who` has a number (`operator` "="), or some relation to others."""

    who: int
    operator: str
    number: int
    of: tuple[int, ...] = ()

    def sentence(self, names: Sequence[str], thing: tuple[str, str], phrasing: int) -> str:
        others = [names[person] for person in self.of]
        return _PHRASINGS[self.operator][phrasing].format(
            who=names[self.who],
            one=others[0] if others else None,
            other=others[-1] if others else None,
            n=self.number,
            times="twice" if self.number == 2 else f"{self.number} times",
            part=_FRACTIONS.get(self.number),
            thing=thing[0],
            things=thing[1],
            counted=thing[self.number != 1],
        )


class _Problem(NamedTuple):
    """Facts in the order in which they are told, who is asked for, and the worked-out steps."""

    facts: tuple[_Fact, ...]
    asked: int
    steps: tuple[str, ...]
    answer: int

    def question(
        self, names: Sequence[str], thing: tuple[str, str], phrasings: Sequence[int]
    ) -> str:
        told = [
            fact.sentence(names, thing, phrasing)
            for fact, phrasing in zip(self.facts, phrasings, strict=True)
        ]
        return " ".join([*told, f"How many {thing[1]} does {names[self.asked]} have?"])

    def shape(self) -> str:
        """The problem without names, things, phrasings and the order of telling: the same for all
        that share it.

        Persons are told apart by how their quantity is made, so that no order is needed to name
        them; who is made from another stands behind it.
        """
        told = {fact.who: fact for fact in self.facts}

        def made(who: int) -> str:
            fact = told[who]
            return f"{fact.operator}{fact.number}({','.join(sorted(map(made, fact.of)))})"

        origin = {who: made(who) for who in told}
        order = sorted(set(origin.values()), key=lambda way: (len(way), way))
        place = {who: order.index(way) for who, way in origin.items()}
        facts = [
            fact._replace(of=tuple(sorted(fact.of, key=place.__getitem__))) for fact in self.facts
        ]
        facts.sort(key=lambda fact: place[fact.who])
        names = [f"#{place[who]}" for who in sorted(told)]
        return self._replace(facts=tuple(facts)).question(names, ("x", "x"), [0] * len(facts))


class _Draws:
    """One problem's own uniform numbers, spent one by one."""

    def __init__(self, uniforms: Sequence[float]) -> None:
        self.rest = iter(uniforms)

    def chance(self, probability: float) -> bool:
        return next(self.rest) < probability

    def below(self, count: int) -> int:
        return int(next(self.rest) * count)

    def sample(self, count: int, population: int) -> list[int]:
        """`count` distinct numbers below `population`, in random order (Fisher-Yates)."""
        deck = list(range(population))
        for place in range(count):
            other = place + self.below(population - place)
            deck[place], deck[other] = deck[other], deck[place]
        return deck[:count]


@dataclass(frozen=True)
class WordProblems(DataSet):
    """`Tom has 5 apples. Ann has 3 more apples than Tom. ... How many apples does Bob have?`

    A problem is a graph of quantities. `min_steps` to `max_steps` relations lead to the person who
    is asked for, each from the one before: `+` more, `-` fewer, `*` times, `/` a part, `&` two
    together, the second an earlier one or one told for it. With probability
    `distractor_probability` a relation brings along one that nobody needs. Numbers that are told
    lie in 1 to `max_number`, all quantities in 1 to `max_value`; `shuffle` tells the facts in
    random order. `names`, `things` and `phrasings` say how many of each are in use; the third
    phrasing of most relations tells them from the other end.

    Steps read `<<5+3=8>>`, as in GSM8K-Aug. A problem belongs to a split by the hash of its content
    without names, things, phrasings and the order of its facts, so no problem is held out whose
    copy under other names or in another order is trained on.
    Raises InputError for knobs that cannot work and, in `load`, for sizes beyond the distinct
    problems that turn up.
    """

    name: str = "word_problems"
    seed: int = 0
    min_steps: int = 2
    max_steps: int = 3
    operators: str = "+-*/"
    max_number: int = 9
    max_value: int = 9
    distractor_probability: float = 0.0
    shuffle: bool = False
    names: int = 8
    things: int = 4
    phrasings: int = 1
    n_train: int = 20000
    n_validation: int = 500
    n_test: int = 1000

    grader: ClassVar[str | None] = "exact_number"

    def __post_init__(self) -> None:
        if not 0 <= self.distractor_probability <= 1:
            raise InputError(
                f"data.distractor_probability={self.distractor_probability}: must lie in [0, 1]"
            )
        for key, value, low, high in (
            ("seed", self.seed, 0, 2**32 - 1),
            ("min_steps", self.min_steps, 1, MOST_STEPS),
            ("max_steps", self.max_steps, self.min_steps, MOST_STEPS),
            ("max_number", self.max_number, 2, 999),
            ("max_value", self.max_value, 2, 9999),
            ("names", self.names, self._persons(), len(NAMES)),
            ("things", self.things, 1, len(OBJECTS)),
            ("phrasings", self.phrasings, 1, MOST_PHRASINGS),
            ("n_train", self.n_train, 1, 10**9),
            ("n_validation", self.n_validation, 1, 10**9),
            ("n_test", self.n_test, 1, 10**9),
        ):
            if not low <= value <= high:
                raise InputError(f"data.{key}={value}: must be {low} to {high} here")
        chosen = set(self.operators)
        if not chosen or not chosen <= set(OPERATORS) or len(chosen) < len(self.operators):
            raise InputError(
                f"data.operators={self.operators!r}: give some of '{OPERATORS}', each once"
            )

    def load(self, splits: Collection[str] = SPLITS) -> Splits:
        """The splits asked for, the same for the same knobs in every process and on every machine;
        the others are empty."""
        return as_splits(self._pools(splits), self.seed)

    def write(self, directory: str | Path) -> None:
        """The three splits as files in the line format of GSM8K-Aug, in a directory that exists."""
        for split, items in self._pools(SPLITS).items():
            lines = "".join(f"{as_line(item)}\n" for item in items)
            (Path(directory) / _FILES[split]).write_text(lines)

    def stream(self) -> Iterator[tuple[str, Item]]:
        """Problems with the split that they belong to, without end and with repetitions."""
        seeds = np.random.SeedSequence([self.seed, _STREAM])
        generator = np.random.Generator(np.random.Philox(seeds))
        # A relation with its distractor takes up to 8 draws; a person's name, fact and its place 3.
        width = 16 + 12 * self._persons()
        found = True
        while found:
            found = False
            for row in generator.random((_BLOCK, width)).tolist():
                draws = _Draws(row)
                problem = self._problem(draws)
                if problem is not None:
                    found = True
                    who = [NAMES[place] for place in draws.sample(self._persons(), self.names)]
                    thing = OBJECTS[draws.below(self.things)]
                    told = [draws.below(self.phrasings) for _ in problem.facts]
                    question = problem.question(who, thing, told)
                    item = Item(question, problem.steps, str(problem.answer))
                    yield split_of(self.seed, problem.shape()), item
        raise InputError(
            f"data.operators={self.operators!r}: hardly ever {self.min_steps} steps in a row with "
            f"data.max_value={self.max_value}; add '+' and '-', or raise data.max_value"
        )

    def _pools(self, splits: Collection[str]) -> dict[str, list[Item]]:
        sizes = {name: getattr(self, f"n_{name}") if name in splits else 0 for name in SPLITS}
        way_out = "lower it, or raise data.max_value, data.max_steps, data.names or data.things"
        return fill(self.stream(), sizes, lambda item: item.question, way_out)

    def _persons(self) -> int:
        """How many persons a problem may need."""
        extra = ("&" in self.operators) + (self.distractor_probability > 0)
        return 1 + self.max_steps * (1 + extra)

    def _problem(self, draws: _Draws) -> _Problem | None:
        """One problem; None where the values that came up leave no relation to go on with."""
        values = [1 + draws.below(min(self.max_number, self.max_value))]
        facts, steps, last = [_Fact(0, "=", values[0])], [], 0
        needed = [0]
        for _ in range(self.min_steps + draws.below(self.max_steps - self.min_steps + 1)):
            relation = self._relation(draws, values, last, needed)
            if relation is None:
                return None
            told, step = relation
            facts += told
            steps.append(step)
            last = told[-1].who
            needed += [fact.who for fact in told]
            if draws.chance(self.distractor_probability):
                facts.append(self._distractor(draws, values, needed[draws.below(len(needed))]))
        if self.shuffle:
            facts = [facts[place] for place in draws.sample(len(facts), len(facts))]
        return _Problem(tuple(facts), last, tuple(steps), values[last])

    def _relation(
        self, draws: _Draws, values: list[int], of: int, needed: Sequence[int]
    ) -> tuple[list[_Fact], str] | None:
        """A new quantity made from that of person `of`: the facts that tell it, and its step."""
        value = values[of]
        partners = [who for who in needed if who != of and value + values[who] <= self.max_value]
        numbers = self._numbers(value)
        if "&" in self.operators and value < self.max_value:
            numbers["&"] = range(1, min(self.max_number, self.max_value - value) + 1)
        possible = [operator for operator in self.operators if numbers.get(operator)]
        if not possible:
            return None
        operator = possible[draws.below(len(possible))]
        number = numbers[operator][draws.below(len(numbers[operator]))]
        if operator != "&":
            result = _OPERATION[operator](value, number)
            fact = _Fact(len(values), operator, number, (of,))
            values.append(result)
            return [fact], f"<<{value}{operator}{number}={result}>>"
        known = bool(partners) and draws.chance(0.5)
        told = []
        if known:
            partner = partners[draws.below(len(partners))]
        else:
            partner = len(values)
            values.append(number)
            told = [_Fact(partner, "=", number)]
        result = value + values[partner]
        fact = _Fact(len(values), "&", 0, (of, partner))
        step = f"<<{value}+{values[partner]}={result}>>"
        values.append(result)
        return [*told, fact], step

    def _distractor(self, draws: _Draws, values: list[int], of: int) -> _Fact:
        """A quantity that nobody needs: made from that of person `of`, or simply told."""
        numbers = self._numbers(values[of])
        possible = [operator for operator in self.operators if numbers.get(operator)] + ["="]
        numbers["="] = range(1, min(self.max_number, self.max_value) + 1)
        operator = possible[draws.below(len(possible))]
        number = numbers[operator][draws.below(len(numbers[operator]))]
        fact = _Fact(len(values), operator, number, () if operator == "=" else (of,))
        values.append(number if operator == "=" else _OPERATION[operator](values[of], number))
        return fact

    def _numbers(self, value: int) -> dict[str, Sequence[int]]:
        """For each operator on a quantity, the numbers that keep the result in range and whole."""
        most = self.max_number
        return {
            "+": range(1, min(most, self.max_value - value) + 1),
            "-": range(1, min(most, value - 1) + 1),
            "*": range(2, min(most, self.max_value // value) + 1),
            "/": [part for part in _FRACTIONS if value % part == 0],
        }


def as_line(item: Item) -> str:
    """An item as a line of GSM8K-Aug: `question||<<step>> <<step>> #### answer`."""
    return f"{item.question}||{' '.join(item.steps)} #### {item.answer}"
