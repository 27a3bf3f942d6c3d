from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from latentbench.data._overlap import splits_digest
from latentbench.data.gsm8k import parse_line
from latentbench.data.word_problems import WordProblems, as_line
from latentbench.errors import InputError
from latentbench.records import Item, Splits

SMALL = WordProblems(operators="+-", n_train=300, n_validation=40, n_test=80)
HARD = WordProblems(
    min_steps=1,
    max_steps=8,
    operators="+-*/&",
    max_number=20,
    max_value=150,
    distractor_probability=0.4,
    shuffle=True,
    names=25,
    things=16,
    n_train=600,
    n_validation=40,
    n_test=80,
)
VARIED = replace(HARD, phrasings=3)
FACTORS = {
    "twice": 2,
    "half": Fraction(1, 2),
    "a third": Fraction(1, 3),
    "a quarter": Fraction(1, 4),
}
PART = "half|a third|a quarter"


@cache
def loaded(task: WordProblems) -> Splits:
    """Generated once for all tests that only read it."""
    return task.load()


def everything(splits: Splits) -> list[Item]:
    return [*splits.train, *splits.validation, *splits.test]


def read(question: str) -> tuple[list[str], str]:
    """The sentences, and who is asked for."""
    *facts, asked = re.split(r"(?<=[.?]) ", question)
    found = re.fullmatch(r"How many (\w+) does (\w+) have\?", asked)
    assert found
    thing = found[1].removesuffix("s")
    assert all(re.search(rf"\b{thing}s?\b", fact) for fact in facts)
    return facts, found[2]


def factor(words: str) -> Fraction:
    return Fraction(FACTORS.get(words) or int(words.split()[0]))


def relation(fact: str) -> tuple[str, list[str], Callable[..., Fraction]]:
    """Who is told about, from whom, and how: each English sentence by a pattern of its own."""
    n = r"(?P<n>\d+)"
    who, one, other = (rf"(?P<{person}>[A-Z]\w+)" for person in ("who", "one", "other"))
    times, part = rf"(?P<times>{n} times|twice)", rf"(?P<part>{PART})"
    rules: dict[str, Callable[..., Fraction]] = {
        rf"{who} (has|owns) {n} \w+": lambda g: Fraction(g["n"]),
        rf"The bag of {who} holds {n} \w+": lambda g: Fraction(g["n"]),
        rf"{who} has {n} more \w+ than {one}": lambda g, x: x + int(g["n"]),
        rf"{who} has as many \w+ as {one} and {n} more": lambda g, x: x + int(g["n"]),
        rf"{who} has {n} fewer \w+ than {one}": lambda g, x: x - int(g["n"]),
        rf"{who} has as many \w+ as {one} but {n} fewer": lambda g, x: x - int(g["n"]),
        rf"{who} has {times} as many \w+ as {one}": lambda g, x: x * factor(g["times"]),
        rf"{who} has {n} times the number of \w+ that {one} has": lambda g, x: x * int(g["n"]),
        rf"For each \w+ of {one} there are {n} of {who}": lambda g, x: x * int(g["n"]),
        rf"{who} has {part} as many \w+ as {one}": lambda g, x: x * factor(g["part"]),
        rf"{who} has {part} of the number of \w+ that {one} has": lambda g, x: (
            x * factor(g["part"])
        ),
        rf"{who} has as many \w+ as {one} and {other} together": lambda g, x, y: x + y,
        rf"{one} and {other} together have as many \w+ as {who}": lambda g, x, y: x + y,
        rf"{who} has the number of \w+ that {one} and {other} have together": (
            lambda g, x, y: x + y
        ),
    }
    for pattern, rule in rules.items():
        if found := re.fullmatch(pattern + r"\.", fact):
            groups = found.groupdict()
            others = [groups[person] for person in ("one", "other") if groups.get(person)]
            return groups["who"], others, partial(rule, groups)
    raise AssertionError(fact)


def inverted(fact: str) -> str | None:
    """The same fact told from its other end, where English has such a form."""
    if more := re.fullmatch(r"(\w+) has (\d+) (more|fewer) (\w+) than (\w+)\.", fact):
        turned = "fewer" if more[3] == "more" else "more"
        return f"{more[5]} has {more[2]} {turned} {more[4]} than {more[1]}."
    if times := re.fullmatch(r"(\w+) has (\d|twice)( times)? as many (\w+) as (\w+)\.", fact):
        part = {"twice": "half", "3": "a third", "4": "a quarter"}.get(times[2])
        return part and f"{times[5]} has {part} as many {times[4]} as {times[1]}."
    return None


def solved(facts: list[str]) -> dict[str, Fraction]:
    """Who has how many, read from the English alone: sentences are tried until all are known."""
    told = [relation(form) for fact in facts for form in (fact, inverted(fact)) if form]
    known: dict[str, Fraction] = {}
    for _ in facts:
        for who, others, rule in told:
            if who not in known and all(other in known for other in others):
                known[who] = rule(*(known[other] for other in others))
    return known


@pytest.mark.parametrize("task", [SMALL, HARD, VARIED], ids=["small", "hard", "varied"])
def test_the_words_give_the_answer_and_python_the_steps(task: WordProblems) -> None:
    for item in everything(loaded(task)):
        facts, asked = read(item.question)
        known = solved(facts)
        assert len(known) == len(facts), "every person is told about once"
        assert str(known[asked]) == item.answer
        results = []
        for step in item.steps:
            formula = re.fullmatch(r"<<(\d+)([+*/-])(\d+)=(\d+)>>", step)
            assert formula
            left, right = Fraction(formula[1]), Fraction(formula[3])
            value = {"+": left + right, "-": left - right, "*": left * right, "/": left / right}
            assert value[formula[2]] == int(formula[4])
            assert not results or results[-1] in (left, right), "each step goes on from the last"
            results.append(int(formula[4]))
        assert str(results[-1]) == item.answer
        assert all(1 <= value <= task.max_value for value in known.values())
        told = [int(number) for number in re.findall(r"\d+", item.question)]
        assert all(1 <= number <= task.max_number for number in told)
        assert task.min_steps <= len(item.steps) <= task.max_steps


def test_a_worked_example() -> None:
    question = (
        "Tom has 4 cards. Eve has twice as many cards as Tom. Bob has 3 fewer cards than Eve. "
        "Ann has as many cards as Bob and Tom together. How many cards does Ann have?"
    )
    facts, asked = read(question)
    assert solved(facts) == {"Tom": 4, "Eve": 8, "Bob": 5, "Ann": 9} and asked == "Ann"


def test_every_kind_of_relation_occurs_and_only_those_asked_for() -> None:
    words = {
        "+": "more",
        "-": "fewer",
        "*": "times|twice",
        "/": "half|third|quarter",
        "&": "together",
    }
    text = " ".join(item.question for item in everything(loaded(HARD)))
    assert all(re.search(pattern, text) for pattern in words.values())
    text = " ".join(item.question for item in everything(loaded(SMALL)))
    assert [k for k, pattern in words.items() if re.search(pattern, text)] == ["+", "-"]


def test_phrasings_change_the_words_and_nothing_else() -> None:
    plain, varied = loaded(HARD), loaded(VARIED)
    for one, other in zip(everything(plain), everything(varied), strict=True):
        assert (one.steps, one.answer) == (other.steps, other.answer)
        assert solved(read(one.question)[0]) == solved(read(other.question)[0])
    text = " ".join(item.question for item in everything(varied))
    for words in ("owns", "bag of", "but", "times the number", "For each", "have together"):
        assert words in text


def test_distractors_are_told_and_not_needed() -> None:
    """Without them every fact is needed; with probability 1 there is one for every step."""
    for probability in (0.0, 1.0):
        task = replace(SMALL, distractor_probability=probability, names=10)
        for item in everything(loaded(task)):
            facts, _ = read(item.question)
            assert len(facts) == 1 + len(item.steps) * (1 + (probability == 1.0))


def test_shuffle_moves_facts() -> None:
    def in_order(task: WordProblems) -> float:
        """The share of problems whose every fact only speaks of persons told about before."""
        items = everything(loaded(task))
        good = 0
        for item in items:
            seen: set[str] = set()
            for fact in read(item.question)[0]:
                who, told = fact.removesuffix(".").split(" has ")
                if not set(re.findall(r"\b[A-Z]\w+", told)) <= seen:
                    break
                seen.add(who)
            else:
                good += 1
        return good / len(items)

    assert in_order(SMALL) == 1.0
    # One of 3! and of 4! orders.
    assert in_order(replace(SMALL, shuffle=True)) == pytest.approx((1 / 6 + 1 / 24) / 2, abs=0.04)


def shape(question: str) -> tuple[tuple[str, ...], str]:
    """What is told, in no order, and what is asked: without names and things, from the English
    alone. A person is called by the way in which the quantity is made."""
    facts, asked = read(question)
    told = {who: (others, fact) for fact in facts for who, others, _ in [relation(fact)]}

    def way(who: str) -> str:
        others, fact = told[who]
        words = re.findall(r"\d+|more|fewer|twice|times|half|third|quarter|together", fact)
        return f"{' '.join(words)}[{'; '.join(sorted(map(way, others)))}]"

    return tuple(sorted(map(way, told))), way(asked)


SHUFFLED = WordProblems(shuffle=True, n_validation=300, n_test=600)
TOGETHER = replace(SHUFFLED, operators="+-&", distractor_probability=0.3, names=16, max_value=20)


@pytest.mark.parametrize(
    "task", [SMALL, HARD, SHUFFLED, TOGETHER], ids=["small", "hard", "shuffled", "together"]
)
def test_no_content_is_in_two_splits_under_other_names_or_in_another_order(
    task: WordProblems,
) -> None:
    splits = replace(task, n_train=3000).load()
    parts = [
        {shape(item.question) for item in part}
        for part in (splits.train, splits.validation, splits.test)
    ]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    questions = [item.question for item in everything(splits)]
    assert len(set(questions)) == len(questions)


def test_the_default_problems_are_those_that_were_measured() -> None:
    """docs/word_problems.md has numbers on them; here the digest of the three splits."""
    digest = WordProblems().load().provenance["digest"]
    assert digest == "afc2b31724e6c3272167b6bb391d7c460c26e08bf761ce38789213490a5132f3"


def test_the_seed_decides_everything() -> None:
    one, same, other = SMALL.load(), SMALL.load(), replace(SMALL, seed=1).load()
    assert one == same
    assert one.provenance["digest"] == splits_digest(one) != other.provenance["digest"]
    assert one.provenance["counts"] == {"train": 300, "validation": 40, "test": 80}
    assert set(one.provenance["counts_by_steps"]["train"]) == {"2", "3"}


def test_growing_one_split_extends_it_and_leaves_the_others() -> None:
    small, large = SMALL.load(), replace(SMALL, n_train=2000).load()
    assert list(large.train[:300]) == list(small.train)
    assert (large.validation, large.test) == (small.validation, small.test)


def test_the_stream_has_no_end_and_starts_with_the_splits() -> None:
    drawn = [item for split, item in islice(SMALL.stream(), 4000) if split == "train"]
    assert list(dict.fromkeys(drawn))[:300] == list(loaded(SMALL).train)


def test_files_are_in_the_line_format_of_gsm8k_aug(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    splits = SMALL.load()
    for name, items in (
        ("train", splits.train),
        ("valid", splits.validation),
        ("test", splits.test),
    ):
        lines = (tmp_path / f"{name}.txt").read_text().splitlines()
        assert [parse_line(line, name) for line in lines] == list(items)
    item = Item("How many?", ("<<1+2=3>>", "<<3*2=6>>"), "6")
    assert as_line(item) == "How many?||<<1+2=3>> <<3*2=6>> #### 6"


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"min_steps": 0}, "data.min_steps=0: must be 1 to 8"),
        ({"max_steps": 9}, "data.max_steps=9: must be 2 to 8"),
        ({"min_steps": 3, "max_steps": 2}, "data.max_steps=2: must be 3 to 8"),
        ({"max_number": 1}, "data.max_number=1"),
        ({"max_value": 1}, "data.max_value=1"),
        ({"names": 3}, "data.names=3: must be 4 to 32"),
        ({"names": 6, "distractor_probability": 0.1}, "data.names=6: must be 7 to 32"),
        ({"things": 0}, "data.things=0"),
        ({"phrasings": 4}, "data.phrasings=4: must be 1 to 3"),
        ({"operators": "+^"}, "data.operators='\\+\\^'"),
        ({"operators": ""}, "data.operators=''"),
        ({"operators": "++"}, "data.operators='\\+\\+'"),
        ({"distractor_probability": 1.5}, "data.distractor_probability=1.5"),
        ({"seed": -1}, "data.seed=-1"),
        ({"n_test": 0}, "data.n_test=0"),
    ],
)
def test_knobs_that_cannot_work_are_refused_by_name(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        WordProblems(**knobs)


def test_more_problems_than_turn_up_are_refused() -> None:
    few = replace(SMALL, min_steps=1, max_steps=1, max_number=2, max_value=2, names=2, things=1)
    with pytest.raises(InputError, match=r"data\.n_\w+=\d+: only \d+ distinct problems"):
        few.load()


def test_operators_that_never_apply_are_refused() -> None:
    stuck = replace(SMALL, operators="/", max_number=2, max_value=2)
    with pytest.raises(InputError, match="hardly ever 2 steps in a row"):
        stuck.load()
