"""What a run says against itself, and where it is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from latentbench.analysis.remarks import remarks
from latentbench.analysis.report import main as report
from latentbench.analysis.run_table import main as run_table
from latentbench.analysis.tables import main as tables


def items(correct: Sequence[bool], golds: Sequence[str], stage: str = "init") -> pd.DataFrame:
    """Greedy rows of one benchmark."""
    rows = zip(correct, golds, strict=True)
    fixed = ("sums", stage, "greedy")
    return pd.DataFrame(
        [(*fixed, right, gold) for right, gold in rows],
        columns=["benchmark", "stage", "decode", "correct", "gold"],
    )


DIGITS = [str(number % 10) for number in range(1000)]


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (95, "at chance: 9.5 % right, and always answering '0' is right for 10.0 %"),
        (118, "at chance"),  # its Wilson interval begins at 0.0995
        (119, None),  # and this one at 0.1004
        (970, None),
        (971, "leaves next to nothing to gain"),
    ],
)
def test_an_init_at_chance_or_without_room(right: int, said: str | None) -> None:
    found = remarks(items([n < right for n in range(1000)], DIGITS), {})
    assert len(found) == (said is not None)
    assert said is None or (said in found[0] and "start model" in found[0])


def test_chance_is_the_most_frequent_answer_of_the_benchmark() -> None:
    golds = ["True"] * 60 + ["False"] * 40
    (found,) = remarks(items([n < 65 for n in range(100)], golds), {})
    assert "always answering 'True' is right for 60.0 %" in found
    assert remarks(items([n < 75 for n in range(100)], golds), {}) == []


def test_a_final_model_at_chance_counts_where_there_is_no_init() -> None:
    (found,) = remarks(items([False] * 1000, DIGITS, "final"), {})
    assert "the model is at chance" in found
    assert remarks(items([True] * 1000, DIGITS, "final"), {}) == []
    both = pd.concat(
        [items([n < 500 for n in range(1000)], DIGITS), items([False] * 9, DIGITS[:9], "final")]
    )
    assert remarks(both, {}) == []


def test_a_flat_reward_and_a_stage_short_of_its_gate() -> None:
    rows = items([n < 500 for n in range(1000)], DIGITS)
    assert remarks(rows, {"train/mixed_groups": 1.0}) == []
    (flat,) = remarks(rows, {"train/mixed_groups": 0.0})
    assert "no group of rollouts had two different rewards" in flat
    stages = [
        {"stage": 0, "updates": 5, "accuracy": 1.0, "passed": True},
        {"stage": 1, "updates": 9, "accuracy": 0.42, "passed": False},
    ]
    (short,) = remarks(rows, {}, stages)
    assert short.startswith("SFT stage 1 ended at its cap with 42.0 %")


def test_the_screen_the_tables_and_the_page_say_it(
    tmp_path: Path, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "chain: the start model is at chance: 9.0 % right"
    one = write_run(tmp_path / "runs/one", method="lepo", remarks=[said])
    write_run(tmp_path / "runs/two", method="lepo", seed=1, remarks=[said])
    assert run_table([str(one)]) == 0
    assert f"Note: {said}." in capsys.readouterr().out
    study, out = str(tmp_path / "runs"), tmp_path / "out"
    assert tables([study, "--out", str(out)]) == 0
    for file in out.glob("*.md"):
        assert f"lepo seed 0, lepo seed 1: {said}." in file.read_text()
    page = tmp_path / "page.html"
    assert report([study, "--out", str(page)]) == 0
    assert said in page.read_text()
    assert json.loads((one / "result.json").read_text())["remarks"] == [said]
