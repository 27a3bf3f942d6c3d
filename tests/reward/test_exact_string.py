from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from latentbench.errors import InputError
from latentbench.reward.exact_string import ExactString

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"

# text, gold, reward
CASES = [
    ("### Sally is a sterpus.", "Sally is a sterpus.", 1),
    ("### Sally is a sterpus", "Sally is a sterpus.", 0),
    ("### Sally is a hilpus.", "Sally is a sterpus.", 0),
    ("### sally is a sterpus.", "Sally is a sterpus.", 0),
    ("Sally is a sterpus.", "Sally is a sterpus.", 1),
    ("### Sally  is a sterpus.", "Sally is a sterpus.", 0),
    ("### True", "True", 1), ("### False", "True", 0), ("### true", "True", 0), ("True", "True", 1),
    ("### True.", "True", 0), ("### True False", "True", 0), ("### False ### True", "True", 1),
    ("### 18", "18", 1), ("### 18.0", "18", 0), ("### 1,000", "1000", 1), ("### 1000", "1,000", 1),
    ("### 1,0,0,0", "1000", 1), ("### $18", "18", 0), ("### 18 ", "18", 1), ("###\n18\n", "18", 1),
    ("### 18\nmore", "18", 0), ("18 ###", "18", 0), ("", "18", 0), ("###", "18", 0),
    ("#,", "18", 0),
    ("### \uff11\uff18", "18", 0), ("### 18\u200b", "18", 0), ("### 18\u00a0", "18", 1),
    ("### \ud800", "18", 0), ("### \ud800", "\ud800", 1), ("### a, b", "a b", 1),
    ("### e\u0301", "\u00e9", 0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "gold", "reward"), CASES)
def test_cases(text: str, gold: str, reward: int) -> None:
    assert ExactString()(text, gold) == reward


def test_nothing_is_no_answer() -> None:
    assert ExactString().extract("### ,, ") is None
    assert ExactString()("###", "") == 0


@pytest.mark.parametrize("gold", ["", " ", ",", "a # b"])
def test_gold_that_nothing_can_equal_is_named(gold: str) -> None:
    with pytest.raises(InputError, match="gold answer"):
        ExactString().check_gold(gold)
    assert ExactString()(f"#{gold}", gold) == 0


def test_the_marker_is_a_knob() -> None:
    assert ExactString(marker="A:")("# 1 A: 2", "2") == 1
    with pytest.raises(InputError, match=r"reward\.marker=''"):
        ExactString(marker="")


@pytest.mark.parametrize("name", ["prosqa/valid", "prosqa/test", "prontoqa/valid", "prontoqa/test"])
def test_published_golds(name: str) -> None:
    path = SHARED / f"{name}.json.gz"
    if not path.is_file():
        pytest.skip("the published items are not here")
    items = json.loads(gzip.decompress(path.read_bytes()))
    golds = {item["answer"] for item in items}
    for gold in golds:
        ExactString().check_gold(gold)
        assert ExactString()(f"step\n### {gold}", gold) == 1
    assert sum(ExactString()("### True", gold) for gold in golds) == ("True" in golds)


def test_a_pattern_finds_the_answer_in_place_of_the_marker() -> None:
    grader = ExactString(pattern="[0-9]$")
    assert [grader.extract(text) for text in ("1566", "6", "15#6", "6 ", "", "a")] == [
        *("6", "6", "6"),
        *(None, None, None),
    ]
    assert grader("1566", "6") == 1 and grader("1566", "5") == 0 == grader("6 ", "6")
    assert ExactString(pattern=r"\(\w+\)")("(a) or (b)?", "(b)") == 1
    grader.check_gold("6")
    with pytest.raises(InputError, match=r"reward\.pattern"):
        grader.check_gold("66")
    with pytest.raises(InputError, match=r"reward\.pattern='\['"):
        ExactString(pattern="[")
