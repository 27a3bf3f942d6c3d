from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from latentbench.data._overlap import splits_digest
from latentbench.data.gsm8k import parse_line
from latentbench.data.word_problems import WordProblems, as_line
from latentbench.errors import InputError
from latentbench.records import Item, Splits

SMALL = WordProblems(min_steps=2, max_steps=3, n_train=300, n_validation=40, n_test=80)
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
TIMES = {"twice": 2, "half": Fraction(1, 2), "a third": Fraction(1, 3), "a quarter": Fraction(1, 4)}


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


def solved(facts: list[str]) -> dict[str, Fraction]:
    """Who has how many, read from the English alone: sentences are tried until all are known."""
    known: dict[str, Fraction] = {}
    for _ in facts:
        for fact in facts:
            who, told = fact.removesuffix(".").split(" has ")
            if plain := re.fullmatch(r"(\d+) \w+", told):
                known[who] = Fraction(plain[1])
            elif more := re.fullmatch(r"(\d+) (more|fewer) \w+ than (\w+)", told):
                if more[3] in known:
                    sign = 1 if more[2] == "more" else -1
                    known[who] = known[more[3]] + sign * int(more[1])
            elif both := re.fullmatch(r"as many \w+ as (\w+) and (\w+) together", told):
                if both[1] in known and both[2] in known:
                    known[who] = known[both[1]] + known[both[2]]
            else:
                times = re.fullmatch(
                    r"(\w+ times|twice|half|a third|a quarter) as many \w+ as (\w+)", told
                )
                assert times, told
                if times[2] in known:
                    factor = TIMES.get(times[1]) or int(times[1].split()[0])
                    known[who] = known[times[2]] * factor
    return known


@pytest.mark.parametrize("task", [SMALL, HARD], ids=["small", "hard"])
def test_the_words_give_the_answer_and_python_the_steps(task: WordProblems) -> None:
    for item in everything(task.load()):
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
    text = " ".join(item.question for item in everything(HARD.load()))
    assert all(re.search(pattern, text) for pattern in words.values())
    text = " ".join(item.question for item in everything(SMALL.load()))
    assert [k for k, pattern in words.items() if re.search(pattern, text)] == ["+", "-"]


def test_distractors_are_told_and_not_needed() -> None:
    """Without them every fact is needed; with probability 1 there is one for every step."""
    for probability in (0.0, 1.0):
        task = replace(SMALL, distractor_probability=probability, names=10)
        for item in everything(task.load()):
            facts, _ = read(item.question)
            assert len(facts) == 1 + len(item.steps) * (1 + (probability == 1.0))


def test_shuffle_moves_facts() -> None:
    def in_order(task: WordProblems) -> float:
        """The share of problems whose every fact only speaks of persons told about before."""
        items = everything(task.load())
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


def shape(question: str) -> str:
    """The content without names and things, by another route than the generator's."""
    facts, asked = read(question)
    text = " ".join(facts) + f" ? {asked}"
    for place, name in enumerate(dict.fromkeys(re.findall(r"\b[A-Z]\w+", text))):
        text = re.sub(rf"\b{name}\b", f"P{place}", text)
    thing = re.search(r"How many (\w+)", question)
    assert thing
    return re.sub(rf"\b{thing[1].removesuffix('s')}s?\b", "x", text)


@pytest.mark.parametrize("task", [SMALL, HARD], ids=["small", "hard"])
def test_no_content_is_in_two_splits_even_under_other_names(task: WordProblems) -> None:
    splits = replace(task, n_train=3000).load()
    parts = [
        {shape(item.question) for item in part}
        for part in (splits.train, splits.validation, splits.test)
    ]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    questions = [item.question for item in everything(splits)]
    assert len(set(questions)) == len(questions)


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
    assert list(dict.fromkeys(drawn))[:300] == list(SMALL.load().train)


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
