from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from latentbench.evaluation.second_opinion import Disagreement, SecondOpinion, second_opinion
from latentbench.reward.exact_number import ExactNumber
from latentbench.reward.exact_string import ExactString
from latentbench.reward.math_verify import MathVerify

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
LABELS = SHARED / "grader_cases" / "gsm8k_example_model_solutions.jsonl.gz"


def test_worked_value() -> None:
    """Four answers; the official exact string differs on `18.0` and cannot compare one."""
    texts = ["#18", "#18.0", "#19", "#18", "#7"]
    golds = ["18", "18", "18", "", "18"]
    first = [ExactNumber()(text, gold) == 1.0 for text, gold in zip(texts, golds, strict=True)]
    assert first == [True, True, False, False, False]
    found = second_opinion(texts, golds, first, ExactString())
    assert found == SecondOpinion(4, 1, 1, (Disagreement("#18.0", "18", True, False),))
    assert found.rate == 0.25


def test_a_grader_agrees_with_itself_and_nothing_to_compare_has_no_rate() -> None:
    texts, golds = ["#1", "#2"], ["1", "1"]
    assert second_opinion(texts, golds, [True, False], ExactNumber()).rate == 0.0
    assert second_opinion(texts, golds, [False, True], ExactNumber()).rate == 1.0
    nothing = second_opinion(texts, ["x", "y"], [True, False], ExactNumber())
    assert nothing == SecondOpinion(0, 0, 2, ()) and nothing.rate is None
    assert second_opinion([], [], [], ExactNumber()).rate is None


def test_examples_are_few_and_show_the_end_of_the_text() -> None:
    texts = [f"{'x' * 1000}#{n}" for n in range(20)]
    found = second_opinion(texts, ["-1"] * 20, [True] * 20, ExactNumber(), examples=3)
    assert (found.disagreements, len(found.examples)) == (20, 3)
    assert [e.text[-2:] for e in found.examples] == ["#0", "#1", "#2"]
    assert all(len(e.text) == 200 for e in found.examples)


class GivesUp(ExactNumber):
    """Comes to no end on `#3`; it has failed elsewhere in this process before."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "counts", {"timed_out": 7})

    @property
    def failures(self) -> dict[str, int]:
        return vars(self)["counts"]

    def __call__(self, text: str, gold: str) -> float:
        self.failures["timed_out"] += text == "#3"
        return super().__call__(text, gold)


def test_failures_are_those_of_these_comparisons() -> None:
    found = second_opinion(["#3", "#2", "#3"], ["1", "2", "x"], [False, True, False], GivesUp())
    assert (found.compared, found.disagreements, found.failures) == (2, 0, 1)


def test_rows_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError):
        second_opinion(["#1"], ["1", "2"], [True], ExactNumber())


@pytest.mark.slow
@pytest.mark.skipif(not LABELS.is_file(), reason="the published labels are not here")
def test_math_verify_on_the_published_labels(capsys: pytest.CaptureFixture[str]) -> None:
    """5,276 labelled solutions: how far the library agrees with people, and with exact_number."""
    texts, golds, labels = [], [], []
    with gzip.open(LABELS, "rt", encoding="utf-8") as rows:
        for row in map(json.loads, rows):
            gold = ExactNumber(marker="A:").extract(row["ground_truth"])
            for model in MODELS:
                texts.append(row[model]["solution"])
                golds.append(gold)
                labels.append(row[model]["is_correct"])
    found = second_opinion(texts, golds, labels, MathVerify(marker="A:", seconds=1.0), examples=99)
    with capsys.disabled():
        print(f"\nmath_verify differs on {found.disagreements} of {found.compared} labels")
        for example in found.examples:
            print(repr(example.text[-40:]), repr(example.gold), example.first)
    assert found.compared == 5276 and found.rate is not None and found.rate < 0.01
