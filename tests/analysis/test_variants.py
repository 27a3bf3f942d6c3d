"""Which differences of two configs make two rows of one method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentbench.analysis.runs import Run
from latentbench.analysis.variants import row_names


def names(*configs: dict[str, Any]) -> list[str]:
    """The rows of runs of one method with these configs."""
    own = {"method": "m", "data": "toy", "model": "tiny"}
    runs = [Run(Path(str(i)), own | {"config": config}) for i, config in enumerate(configs)]
    return list(row_names(runs).values())


@pytest.mark.parametrize("name", ["logger", "trainer", "debug", "experiment"])
def test_presets_split_no_row(name: str) -> None:
    assert (
        names({"choices": {name: "a"}}, {"choices": {name: "None"}}, {"choices": {}}) == ["m"] * 3
    )


@pytest.mark.parametrize("name", ["eval_items", "rl_updates", "samples", "sft_updates_per_stage"])
def test_limits_split_no_row(name: str) -> None:
    assert names({"limit": {name: 9}}, {"limit": {name: None}}) == ["m", "m"]


def test_what_a_limit_shortened_splits_rows() -> None:
    short = {"limit": {"rl_updates": 2}, "rl": {"updates": 2}}
    assert names(short, {"limit": {"rl_updates": None}, "rl": {"updates": 200}}) == [
        "m (rl.updates=2)",
        "m (rl.updates=200)",
    ]


def test_fewer_training_items_split_rows() -> None:
    """Nothing else in the config tells that the training data was cut."""
    assert names({"limit": {"train_items": 9}}, {"limit": {"train_items": None}}) == [
        "m (limit.train_items=9)",
        "m (limit.train_items=null)",
    ]


def test_other_choices_split_rows() -> None:
    assert names({"choices": {"noise": "none"}}, {"choices": {"noise": "shared_mask"}}) == [
        "m (choices.noise=none)",
        "m (choices.noise=shared_mask)",
    ]


def test_one_row_in_the_table(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    from latentbench.analysis.collect import collect

    for seed, debug in enumerate(["None", "smoke"]):
        write_run(tmp_path / str(seed), seed=seed, config={"choices": {"debug": debug}})
    assert collect([tmp_path]).frame["row"].nunique() == 1
