"""Sums of four digits: the embedded default's problems."""

from __future__ import annotations

import re

import pytest

from latentbench.data._overlap import check_disjoint
from latentbench.data.sums import Sums
from latentbench.errors import InputError
from latentbench.reward.exact_string import ExactString

DIGEST = "da6e4bff85b5f0dda635294e75280f09303e2fa55b1d54a425e3855f7e132967"


def test_steps_are_the_running_results_and_the_last_is_the_answer() -> None:
    data = Sums().load()
    assert (len(data.train), len(data.validation), len(data.test)) == (6000, 500, 1000)
    check_disjoint(data)
    for item in (*data.train, *data.validation, *data.test):
        assert re.fullmatch(r"\d\+\d\+\d\+\d=", item.question)
        digits = [int(digit) for digit in item.question if digit.isdigit()]
        results = [str(sum(digits[:count]) % 10) for count in (2, 3, 4)]
        assert item.steps == tuple(results) and item.answer == results[-1]


def test_what_is_written_is_results_alone_and_its_last_digit_is_graded() -> None:
    template, grader = Sums.template, ExactString(pattern="[0-9]$")
    assert (template.question_end, template.step_end, template.answer_start) == ("", "", "")
    item = Sums().load(["test"]).test[0]
    for written in range(len(item.steps) + 1):
        assert grader("".join((*item.steps[written:], item.answer)), item.answer) == 1


def test_every_answer_is_about_as_frequent() -> None:
    """Nothing is gained by always giving one answer: chance is 10 %."""
    test = Sums().load(["test"]).test
    counts = [sum(item.answer == str(digit) for item in test) for digit in range(10)]
    assert max(counts) <= 130 and min(counts) >= 70


def test_the_problems_stay_the_same() -> None:
    assert Sums().load().provenance["digest"] == DIGEST


def test_more_problems_than_there_are_sums_are_refused() -> None:
    with pytest.raises(InputError, match=r"data\.n_train=8500: only \d+ of the 10000"):
        Sums(n_train=8500).load()
