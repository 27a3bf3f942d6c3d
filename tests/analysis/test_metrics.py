"""Metrics of a run from its items: hand-made frames with known answers."""

from __future__ import annotations

import pandas as pd
import pytest

from latentbench.analysis.metrics import summary_metrics
from latentbench.analysis.outcomes import outcomes
from latentbench.analysis.runs import ITEM_COLUMNS


def frame(sampled: dict[str, str], greedy: dict[str, str], stage: str = "final") -> pd.DataFrame:
    """Items with one letter for each answer: r(ight), w(rong), n(one)."""
    rows = []
    for decode, answers in (("sampled", sampled), ("greedy", greedy)):
        for item, letters in answers.items():
            for number, letter in enumerate(letters):
                prediction = {"r": "7", "w": "8", "n": None}[letter]
                row = ["b", item, stage, decode, number, "text", prediction, "7"]
                rows.append([*row, letter == "r", letter == "n", 2, 4 if letter == "n" else 2])
    return pd.DataFrame(rows, columns=list(ITEM_COLUMNS))


def test_metrics_of_a_known_frame() -> None:
    items = frame({"x": "rrww", "y": "nnnr", "z": "wwwr"}, {"x": "r", "y": "n", "z": "w"})
    assert summary_metrics(items, [4, 1, 2]) == {
        "b/pass@1": pytest.approx(1 / 3),
        "b/sampled_pass@1": pytest.approx((2 + 1 + 1) / 12),
        "b/pass@2": pytest.approx((5 / 6 + 1 / 2 + 1 / 2) / 3),
        "b/pass@4": 1.0,
        "b/coverage": 1.0,
        "b/maj@4": pytest.approx(2 / 3),
        "b/truncated": pytest.approx(1 / 3),
        "b/answer_tokens": pytest.approx(8 / 3),
        "b/latent_steps": 2.0,
        "b/sampled_truncated": pytest.approx(3 / 12),
        "b/sampled_answer_tokens": pytest.approx((9 * 2 + 3 * 4) / 12),
    }


def test_gradings_that_came_to_no_end_are_counted() -> None:
    items = frame({"x": "rw", "y": "ww"}, {"x": "r", "y": "w"})
    failed = items.assign(grader_failed=[False, True, True, False, False, True])
    assert summary_metrics(failed, [1])["b/grader_failures"] == 3.0
    assert "b/grader_failures" not in summary_metrics(items, [1])


def test_init_is_prefixed_and_row_order_does_not_matter() -> None:
    both = pd.concat([frame({"x": "rw"}, {"x": "r"}, stage) for stage in ("final", "init")])
    metrics = summary_metrics(both, [2])
    assert set(metrics) >= {"init/b/pass@2", "b/pass@2", "init/b/truncated"}
    assert summary_metrics(both.sample(frac=1, random_state=0), [2]) == metrics


def test_one_decoding_alone() -> None:
    greedy = summary_metrics(frame({}, {"x": "r", "y": "n"}), [1, 4])
    assert greedy == {
        "b/pass@1": 0.5,
        "b/truncated": 0.5,
        "b/answer_tokens": 3.0,
        "b/latent_steps": 2.0,
    }
    sampled = summary_metrics(frame({"x": "rn"}, {}), [2])
    assert sampled == {
        "b/pass@2": 1.0,
        "b/coverage": 1.0,
        "b/maj@2": 1.0,
        "b/truncated": 0.5,
        "b/answer_tokens": 3.0,
        "b/latent_steps": 2.0,
        "b/sampled_truncated": 0.5,
        "b/sampled_answer_tokens": 3.0,
    }


def test_a_prediction_that_went_through_a_file_does_not_vote(tmp_path) -> None:
    items = frame({"x": "nnr"}, {})
    items.to_parquet(tmp_path / "items.parquet")
    majority = outcomes(pd.read_parquet(tmp_path / "items.parquet"), "b", "final").majority
    assert majority is not None and majority.tolist() == [True]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (frame({"x": "rr", "y": "r"}, {}), "not every item"),
        (frame({"x": "rrr", "y": "r"}, {}), "not every item"),
        (frame({"x": "rr"}, {"y": "r"}), "different items"),
        (frame({}, {"x": "rr"}), "more than one greedy"),
        (pd.concat([frame({"x": "rw"}, {"x": "r"})] * 2), "more than one greedy"),
        (pd.concat([frame({"x": "rw"}, {})] * 2), "not every item"),
    ],
)
def test_unequal_or_repeated_items_are_refused(items: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=f"benchmark 'b'.*{message}"):
        summary_metrics(items, [1])


def test_more_samples_asked_than_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match=r"k=4: .* n is 2"):
        summary_metrics(frame({"x": "rw"}, {}), [4])
    with pytest.raises(ValueError, match="none"):
        outcomes(frame({}, {"x": "r"}), "b", "final").pass_at(1)
