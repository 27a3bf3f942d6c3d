from __future__ import annotations

import re
from dataclasses import replace

import pytest

from latentbench.data._generated import split_of
from latentbench.data._overlap import check_disjoint, splits_digest
from latentbench.data.arithmetic import Arithmetic
from latentbench.errors import InputError
from latentbench.records import Item, Splits, content_uid

SMALL = Arithmetic(n_train=300, n_validation=40, n_test=80)


def everything(splits: Splits) -> list[Item]:
    return [*splits.train, *splits.validation, *splits.test]


def naive(question: str, modulus: int) -> list[int]:
    """The value after each operator by another route: sums of signed digits, reduced at the end."""
    digits = [int(piece) for piece in re.findall(r"[+-]?\d", question)]
    return [sum(digits[: count + 1]) % modulus for count in range(1, len(digits))]


@pytest.mark.parametrize("modulus", [2, 7, 10])
def test_steps_and_answers_are_right(modulus: int) -> None:
    task = Arithmetic(lengths=[4, 6], n_train=300, n_validation=20, n_test=40, modulus=modulus)
    for item in everything(task.load()):
        assert re.fullmatch(r"\d([+-]\d)+=", item.question)
        assert all(int(digit) < modulus for digit in re.findall(r"\d", item.question))
        values = naive(item.question, modulus)
        assert len(item.steps) == len(values) == len(re.findall(r"[+-]", item.question))
        left = int(item.question[0])
        for step, piece, value in zip(
            item.steps, re.findall(r"[+-]\d", item.question), values, strict=True
        ):
            assert step == f"<{left}{piece}={value}>"
            left = value
        assert item.answer == str(values[-1])


def test_counts_and_provenance_agree() -> None:
    splits = Arithmetic().load()
    sizes = {"train": 6000, "validation": 500, "test": 1000}
    assert {name: len(getattr(splits, name)) for name in sizes} == sizes
    assert splits.provenance["counts"] == sizes
    assert splits.provenance["source"] == "generator"
    assert splits.provenance["digest"] == splits_digest(splits)
    for name, size in sizes.items():
        by_steps = splits.provenance["counts_by_steps"][name]
        assert set(by_steps) == {"2", "3"}
        assert sum(by_steps.values()) == size


def test_no_question_occurs_twice() -> None:
    questions = [item.question for item in everything(Arithmetic().load())]
    assert len(set(questions)) == len(questions) == 7500


def test_the_seed_decides_everything() -> None:
    one, same, other = SMALL.load(), SMALL.load(), replace(SMALL, seed=1).load()
    assert one == same
    assert one.provenance["digest"] != other.provenance["digest"]


def test_growing_one_split_extends_it_and_leaves_the_others() -> None:
    small, large = SMALL.load(), replace(SMALL, n_train=9000).load()
    assert list(large.train[:300]) == list(small.train)
    assert (large.validation, large.test) == (small.validation, small.test)
    longer = replace(SMALL, n_test=900).load()
    assert list(longer.test[:80]) == list(small.test)
    assert (longer.train, longer.validation) == (small.train, small.validation)


def test_a_question_belongs_to_one_split_whatever_the_knobs() -> None:
    knobs = [SMALL, replace(SMALL, lengths=[3, 2]), replace(SMALL, lengths=[2], n_train=2000)]
    found: dict[str, str] = {}
    for task in knobs:
        splits = task.load()
        for name in ("train", "validation", "test"):
            for item in getattr(splits, name):
                assert found.setdefault(item.question, name) == name


def test_the_mix_of_lengths_is_followed() -> None:
    task = Arithmetic(lengths=[5, 5, 6], n_train=3000)
    items = task.load().train
    # 3,000 draws at 2/3: standard deviation 26; repetitions are rare at these lengths
    assert abs(sum(len(item.steps) == 5 for item in items) - 2000) < 130


@pytest.mark.parametrize(
    ("task", "count"),
    [
        (Arithmetic(lengths=[1]), 10**2 * 2),
        (Arithmetic(lengths=[2, 2, 3]), 10**3 * 4 + 10**4 * 8),
        (Arithmetic(lengths=[2], operators="+", modulus=3), 27),
    ],
)
def test_the_space_is_counted(task: Arithmetic, count: int) -> None:
    assert task.space() == count
    if count < 1000:
        assert len({item.question for item in task._every_problem()}) == count


def test_a_small_space_can_be_used_up_to_the_last_problem() -> None:
    task = Arithmetic(lengths=[1], n_train=1, n_validation=1, n_test=1)
    counts = {"train": 0, "validation": 0, "test": 0}
    for item in task._every_problem():
        counts[split_of(task.seed, item.question)] += 1
    sizes = {f"n_{name}": count for name, count in counts.items()}
    assert sum(counts.values()) == 200
    assert len(everything(replace(task, **sizes).load())) == 200
    for name in sizes:
        with pytest.raises(InputError, match=rf"data\.{name}=.*200 distinct.*data\.lengths=\[1\]"):
            replace(task, **{**sizes, name: sizes[name] + 1}).load()


def test_more_problems_than_exist_are_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"data\.n_train=6000.*only 200.*data\.lengths=\[1\]"):
        Arithmetic(lengths=[1]).load()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"seed": -1}, "data.seed=-1"),
        ({"lengths": []}, "data.lengths=[]"),
        ({"lengths": [2, 0]}, "data.lengths=[2, 0]"),
        ({"n_train": 0}, "data.n_train=0"),
        ({"n_validation": -3}, "data.n_validation=-3"),
        ({"n_test": 0}, "data.n_test=0"),
        ({"operators": ""}, "data.operators=''"),
        ({"operators": "+*"}, "data.operators='+*'"),
        ({"operators": "++"}, "data.operators='++'"),
        ({"modulus": 1}, "data.modulus=1"),
        ({"modulus": 11}, "data.modulus=11"),
    ],
)
def test_bad_knobs_are_named(knobs: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Arithmetic(**knobs)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_template_is_no_knob() -> None:
    from omegaconf import OmegaConf

    config = OmegaConf.structured(Arithmetic)
    assert "template" not in config
    assert config.lengths == [2, 2, 3]
    template = Arithmetic.template
    assert (template.question_end, template.step_end, template.answer_start) == ("", "", "#")
    assert OmegaConf.to_object(config) == Arithmetic()


def test_overlap_is_found_through_case_space_and_quotes() -> None:
    one = Item("Tom\u2019s  3 Eggs?", (), "3")
    other = Item("tom's 3 eggs?", (), "3")
    assert content_uid(one.question) != content_uid(other.question)
    with pytest.raises(InputError, match=r"train \(a\.txt\) and test \(test\) have 1 questions"):
        check_disjoint(Splits([one], [], [other]), {"train": "a.txt"})
    check_disjoint(Splits([one, one], [], []))


def test_the_digest_sees_every_field_and_the_order() -> None:
    a, b = Item("1?", ("x",), "1"), Item("2?", (), "2")
    variants = [
        Splits([a, b], [], []),
        Splits([b, a], [], []),
        Splits([a], [b], []),
        Splits([a, replace(b, answer="3")], [], []),
        Splits([replace(a, steps=("y",)), b], [], []),
    ]
    assert len({splits_digest(splits) for splits in variants}) == len(variants)
