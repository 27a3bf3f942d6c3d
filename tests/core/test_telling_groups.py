"""Which groups an update replays: those in which any position of any rollout has an advantage."""

from __future__ import annotations

import pytest
import torch

from latentbench.training.update import telling_groups


def group(*values: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(values)  # [rollout, position]


NONE = group((0.0, 0.0), (0.0, 0.0))
CASES = {
    "both signs": group((1.0, 1.0), (-1.0, -1.0)),
    "one rollout": group((0.0, 0.0), (0.5, 0.5)),
    "wrong ones alone": group((0.0, 0.0), (-0.5, -0.5)),  # scale_positive with factor 0
    "all but the first position": group((0.0, -0.1), (0.0, 0.1)),  # first_token
    "the first position alone": group((1e-9, 0.0), (0.0, 0.0)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_any_advantage_tells(case: torch.Tensor) -> None:
    assert telling_groups(torch.stack([NONE, case, NONE, case]), penalised=False) == [1, 3]


def test_under_a_penalty_every_group_does() -> None:
    assert telling_groups(torch.stack([NONE, NONE, CASES["both signs"]]), True) == [0, 1, 2]
    assert telling_groups(torch.stack([NONE, NONE]), False) == []
