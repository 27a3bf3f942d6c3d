"""Rows and files that would be read as other problems are refused by file and row."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from latentbench.data._files import iterate_rows
from latentbench.data._published import tell_conflicts, without_repeats
from latentbench.data.gsm8k import parse_json, parse_line
from latentbench.errors import InputError
from latentbench.records import Item

WRONG = {
    "a second ||": ("what?||<<1+1=2>>||<<2+2=4>> #### 4", "more than one '||'"),
    "a question with bars": ("|| a||b||<<1+1=2>> #### 2", "more than one '||'"),
    "a second ####": ("what?||<<1+1=2>> #### 2 #### 3", "more than one '####'"),
    "a mark in the steps": ("what?||#### 1 <<1+1=2>> #### 2", "more than one '####'"),
    "a fifth #": ("what?||<<1+1=2>> ##### 2", "more than one '####'"),
    "no bars": ("what? <<1+1=2>> #### 2", "no '||'"),
    "no mark": ("what?||<<1+1=2>> 2", "no '####'"),
    "steps without a blank": ("what?||<<1+1=2>><<2+2=4>> #### 4", "two steps without a blank"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_row_of_another_layout_is_named(name: str) -> None:
    row, said = WRONG[name]
    with pytest.raises(InputError, match=r"^train\.txt:7: ") as error:
        parse_line(row, "train.txt:7")
    assert said in str(error.value)


def test_a_worked_answer_with_two_marks_is_named() -> None:
    row = '{"question": "what?", "answer": "one\\n#### 1\\n#### 2"}'
    with pytest.raises(InputError, match="test.jsonl:3: more than one"):  # noqa: RUF043
        parse_json(row, "test.jsonl:3")


@pytest.mark.parametrize("content", [b"a||#### 1\rb||#### 2\r", b"a||#### 1\nb\rc||#### 2\n"])
def test_a_carriage_return_in_a_row_is_named(content: bytes) -> None:
    with pytest.raises(InputError, match=r"x\.txt:[12]: a carriage return inside the row"):
        list(iterate_rows(content, Path("x.txt")))


def test_windows_line_ends_are_line_ends() -> None:
    assert [row for _, row in iterate_rows(b"a\r\nb\r\n", Path("x"))] == ["a", "b"]


def test_two_answers_to_one_question_are_told_by_name(caplog: pytest.LogCaptureFixture) -> None:
    items = [Item("q", (), "1"), Item("r", (), "5"), Item("q", (), "2"), Item("q", (), "1")]
    kept, repeated, conflicting = without_repeats(items)
    assert (kept, repeated) == (items[:2], 2)
    assert conflicting == [(items[0], items[2])]
    with caplog.at_level(logging.WARNING):
        tell_conflicts("data=mine", conflicting)
    assert "data=mine: 1 rows" in caplog.text and "'q' it is 1 and not 2" in caplog.text
