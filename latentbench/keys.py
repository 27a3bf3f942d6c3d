"""Randomness as a value: a draw depends on its key alone.

Every random number of a run comes from a counter-based Philox stream whose 128-bit key is NumPy's
`SeedSequence` hash of (run seed, purpose, step, prompt uid, rollout index). Batch size,
micro-batches, row order, finished neighbours and interruptions leave a row's draws as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

_WORD = 2**32


class Purpose(IntEnum):
    """What a stream is for; two purposes never share a stream."""

    WEIGHTS = 1
    ORDER = 2
    STAGE = 3
    DROPOUT = 4
    NOISE = 5
    ANSWER = 6
    TEST_NOISE = 7
    TEST_ANSWER = 8
    FRESH = 9
    INTERVENTION = 10


@dataclass(frozen=True)
class Key:
    """The name of one random stream."""

    seed: int
    purpose: Purpose
    step: int = 0
    prompt: int = 0
    rollout: int = 0

    def generator(self) -> np.random.Generator:
        """A fresh generator at the start of this key's stream."""
        # Fixed-width words: no two keys flatten to the same sequence.
        words = (
            *divmod(self.seed, _WORD),
            int(self.purpose),
            self.step,
            *divmod(self.prompt, _WORD),
            self.rollout,
        )
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))

    def integer(self) -> int:
        """A 63-bit seed for a library that insists on a seed of its own."""
        return int(self.generator().integers(2**63))


def rollout_keys(
    seed: int, purpose: Purpose, step: int, prompts: Sequence[int], group_size: int
) -> list[Key]:
    """One key per rollout, group-major: all rollouts of `prompts[0]` first."""
    return [
        Key(seed, purpose, step, uid, rollout) for uid in prompts for rollout in range(group_size)
    ]


def uniforms(keys: Sequence[Key], count: int) -> np.ndarray:
    """Uniform numbers in [0, 1), float64 [row, count]; row i from `keys[i]` alone."""
    return np.stack([key.generator().random(count) for key in keys])
