"""Each aggregation and both clips against plain NumPy in float64: values, gradients, additivity."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from checks import loss_input

from latentbench.errors import InputError
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import LossInput

LENGTH = 7
LOSSES = [
    Clipped(),
    Clipped(aggregate="constant", length=LENGTH),
    Clipped(aggregate="token_mean", clip_high=0.28),
    Clipped(aggregate="sequence_mean"),
    Clipped(aggregate="token_mean", dual_clip=3.0),
    Clipped(aggregate="sequence_mean", clip_low=0.3, clip_high=0.1, dual_clip=1.5),
]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=repr)


def drawn(seed: int = 0, rows: int = 6, width: int = 5) -> LossInput:
    """Ratios on both sides of every bound, advantages per position, one row without any position.

    The positions of a row need not be one block: what is scored is what the mask says.
    """
    generator = np.random.default_rng(seed)
    mask = generator.random((rows, width)) < 0.7
    mask[0], mask[1, :4] = False, False
    old = -3 * generator.random((rows, width))
    shift = generator.uniform(-1.5, 1.8, (rows, width))
    return LossInput(
        log_probs=torch.from_numpy(old + shift).requires_grad_(),
        old_log_probs=torch.from_numpy(old),
        mask=torch.from_numpy(mask).long(),
        advantages=torch.from_numpy(generator.normal(size=(rows, width))),
        total_rows=rows,
        total_tokens=int(mask.sum()),
    )


def in_numpy(loss: Clipped, batch: LossInput, log_probs: np.ndarray) -> float:
    """The definition, position by position, with nothing of torch in it."""
    old, advantages = batch.old_log_probs.numpy(), batch.advantages.numpy()
    total = 0.0
    for row, mask in enumerate(batch.mask.numpy()):
        values = []
        for place in np.flatnonzero(mask):
            ratio, a = np.exp(log_probs[row, place] - old[row, place]), advantages[row, place]
            inside = min(max(ratio, 1 - loss.clip_low), 1 + loss.clip_high)
            value = min(ratio * a, inside * a)
            if loss.dual_clip is not None and a < 0:
                value = max(value, loss.dual_clip * a)
            values.append(value)
        mean = loss.aggregate == "sequence_mean"
        total -= sum(values) / (len(values) if mean and values else 1)
    rows, tokens = batch.total_rows, batch.total_tokens
    counts = {"token_mean": tokens, "constant": rows * LENGTH}
    return total / counts.get(loss.aggregate, rows)


@each_loss
@pytest.mark.parametrize("seed", range(4))
def test_value_and_gradient(loss: Clipped, seed: int) -> None:
    """The gradient by central differences, at ratios away from the kinks."""
    batch = drawn(seed)
    start, step = batch.log_probs.detach().numpy().copy(), 1e-6
    found = loss(batch).loss
    found.backward()
    assert abs(found.item() - in_numpy(loss, batch, start)) < 1e-12
    assert batch.log_probs.grad is not None
    for index in np.ndindex(start.shape):
        up, down = start.copy(), start.copy()
        up[index] += step
        down[index] -= step
        slope = (in_numpy(loss, batch, up) - in_numpy(loss, batch, down)) / (2 * step)
        assert abs(batch.log_probs.grad[index].item() - slope) < 1e-8


@each_loss
def test_the_metric_counts_the_positions_that_do_not_pull(loss: Clipped) -> None:
    """A position is clipped when it has an advantage and no gradient."""
    batch = drawn(5, rows=40)
    output = loss(batch)
    output.loss.backward()
    assert batch.log_probs.grad is not None
    still = (batch.log_probs.grad == 0) & batch.mask.bool()
    assert int(output.sums["ratio_clipped"]) == int(still.sum()) > 20
    assert int(output.sums["tokens"]) == batch.total_tokens


@each_loss
@pytest.mark.parametrize("cuts", [[1, 4], [2], [1, 2, 3, 4, 5]], ids=str)
def test_micro_batches_add_up(loss: Clipped, cuts: list[int]) -> None:
    """Loss, gradient and counts, also where a micro-batch has no scored position at all."""
    whole = drawn(1)
    output = loss(whole)
    output.loss.backward()
    edges = [0, *cuts, len(whole.mask)]
    outputs, slopes = [], []
    for begin, end in itertools.pairwise(edges):
        rows = slice(begin, end)
        leaf = whole.log_probs.detach()[rows].clone().requires_grad_()
        part = replace(
            whole,
            log_probs=leaf,
            old_log_probs=whole.old_log_probs[rows],
            mask=whole.mask[rows],
            advantages=whole.advantages[rows],
        )
        outputs.append(loss(part))
        outputs[-1].loss.backward()
        slopes.append(leaf.grad)
    assert abs(sum(part.loss.item() for part in outputs) - output.loss.item()) < 1e-14
    assert whole.log_probs.grad is not None
    assert torch.allclose(torch.cat(slopes), whole.log_probs.grad, rtol=0, atol=1e-15)
    for name, value in output.sums.items():
        assert sum(int(part.sums[name]) for part in outputs) == int(value)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (Clipped(aggregate="sequence_mean"), 0.0),
        (Clipped(aggregate="token_mean"), 0.5),
        (Clipped(aggregate="constant", length=4), 0.25),
        (Clipped(aggregate="token_sum"), 1.0),
    ],
    ids=lambda value: getattr(value, "aggregate", value),
)
def test_worked_values_of_the_aggregations(loss: Clipped, expected: float) -> None:
    """Two rollouts of 1 and 3 tokens with advantages +1 and -1, at ratio 1."""
    two = loss_input([1.0, -1.0], [[1.0] * 3] * 2, [1, 3])
    assert abs(loss(two).loss.item() - expected) < 1e-12


@pytest.mark.parametrize(
    ("advantage", "ratio", "expected"),
    [(-1, 2.9, -2.9), (-1, 3.5, -3.0), (-2, 10.0, -6.0), (-1, 0.5, -0.8), (1, 10.0, 1.2)],
)
def test_worked_values_of_the_dual_clip(advantage: float, ratio: float, expected: float) -> None:
    """c = 3: what is bad and has become more likely costs at most 3 |A|; nothing else changes."""
    batch = loss_input([advantage], [[ratio]], [1])
    assert abs(-Clipped(dual_clip=3.0)(batch).loss.item() - expected) < 1e-12


def test_constant_is_the_token_sum_over_a_length() -> None:
    batch = drawn()
    found = Clipped(aggregate="constant", length=LENGTH)(batch).loss
    assert found.item() == pytest.approx(Clipped()(batch).loss.item() / LENGTH, rel=1e-14)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"aggregate": "mean"}, "policy_loss.aggregate=mean: choose one of token_sum, "),
        ({"dual_clip": 1.0}, "policy_loss.dual_clip=1.0: must be above 1"),
        ({"aggregate": "constant"}, "policy_loss.length=None with policy_loss.aggregate=constant"),
        ({"aggregate": "constant", "length": 0}, "policy_loss.length=0"),
        ({"length": 8}, "only aggregate=constant divides by it"),
        ({"clip_high": float("nan")}, "policy_loss.clip_low=0.2, clip_high=nan"),
    ],
)
def test_values_without_meaning_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        Clipped(**wrong)
    assert said in str(error.value) and "\n" not in str(error.value)
