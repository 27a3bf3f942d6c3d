"""What holds of every generator: one split by itself is that split of the whole set."""

from __future__ import annotations

from typing import Any

import pytest

from latentbench.data.arithmetic import Arithmetic
from latentbench.data.prontoqa_gen import ProntoqaGen
from latentbench.data.prosqa_gen import ProsqaGen
from latentbench.data.word_problems import WordProblems

SIZES: dict[str, Any] = dict(n_train=60, n_validation=8, n_test=16)
TASKS: list[Any] = [cls(**SIZES) for cls in (Arithmetic, ProntoqaGen, ProsqaGen, WordProblems)]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_split_by_itself_is_that_of_the_whole_set(task: Any) -> None:
    whole = task.load()
    assert [len(whole.train), len(whole.validation), len(whole.test)] == [60, 8, 16]
    for split in ("train", "validation", "test"):
        part = task.load([split])
        assert getattr(part, split) == getattr(whole, split)
        others = {"train", "validation", "test"} - {split}
        assert not any(getattr(part, other) for other in others)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_generator_reads_no_files(task: Any) -> None:
    """So it has no root: other benchmarks of a run have theirs, eval.<name>.root."""
    assert task.root is None and "root" not in vars(task)
