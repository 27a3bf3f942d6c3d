"""However a batch is cut, its losses add up to the same: each share is divided by what the whole
batch has, not by its own part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from checks import LAYOUT, gap, gradient_gap, gradients, twin
from plain import policy_with

from latentbench.config.sections import SftConfig
from latentbench.curriculum.coconut import Coconut
from latentbench.data._chains import solve
from latentbench.model.policy import Policy
from latentbench.records import SftRow, Slots
from latentbench.sft_loss.distill import Distill
from latentbench.sft_loss.lexical import Lexical
from latentbench.sft_loss.text import TextLoss
from latentbench.training.data import sft_rows

F64 = torch.float64
SLOTS = Slots(per_step=1, max_stage=3, pad_to_max=True)
CONFIG = SftConfig(lr=1e-3, batch_size=4, stages=[1])
# One to four steps: the rows differ in text and in how many slots stand for a step.
ITEMS = [
    solve((1, 2), "+", 10),
    solve((3, 4, 9), "+-", 10),
    solve((7, 1, 1, 2), "++-", 10),
    solve((5, 5, 5, 5, 5), "-+-+", 10),
]


def cut(loss: Any, policy: Policy, rows: Sequence[SftRow], size: int) -> torch.Tensor:
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return sum(
        (loss(policy, part, rows, LAYOUT.markers.pad) for part in parts), torch.zeros((), dtype=F64)
    )


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("loss", [TextLoss(), Lexical(weight=0.7)], ids=lambda x: type(x).__name__)
def test_micro_batches_add_up(loss: Any, size: int) -> None:
    policy = policy_with(twin("gpt2", dtype=F64))
    stage = 4  # past the last: three slots for all, and no text but the answer
    rows = sft_rows(ITEMS, stage, 0, Coconut(), SLOTS, LAYOUT, CONFIG, 0, loss.needs)
    policy = replace(policy, latents=3)
    whole, parts = cut(loss, policy, rows, 4), cut(loss, policy, rows, size)
    assert gap(whole, parts) < 1e-12
    model = policy.model
    assert gradient_gap(gradients(model, parts), gradients(model, whole)) < 1e-12


def test_the_text_of_a_distilled_batch_adds_up_too() -> None:
    """All but the alignment, whose scale is that of a micro-batch."""
    loss = Distill(weight=0.0, teacher_weight=0.5)
    policy = replace(policy_with(twin("gpt2", dtype=F64)), latents=3)
    rows = sft_rows(ITEMS, 4, 0, Coconut(), SLOTS, LAYOUT, CONFIG, 0, loss.needs)
    assert gap(cut(loss, policy, rows, 4), cut(loss, policy, rows, 3)) < 1e-12
