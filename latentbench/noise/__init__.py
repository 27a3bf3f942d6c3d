"""Noise sources: what makes the rollouts of one prompt differ. One file each.

A source draws a record from the rollouts' keys, and says which gains that record puts on which
sites at which step. Rollout and replay ask with the same record: that is the invariant which makes
every method honest.

Steps are counted as in the field: 0 is the prompt, 1..T the latent slots, `ANSWER` the text after
them. Sites are `embedding` (the input vectors) and, for every block i, `attention.i` and `mlp.i`
(the outputs of its two residual branches).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import torch

from latentbench.keys import Key
from latentbench.records import NoiseRecord

PROMPT = 0
ANSWER = -1

Gains: TypeAlias = "Mapping[str, torch.Tensor]"


class NoiseSource(Protocol):
    @property
    def diverges(self) -> str:
        """The first phase in which rollouts of a prompt differ: `prompt`, `latent` or `answer`.
        All before it is computed once per prompt."""
        ...

    def draw(self, keys: Sequence[Key], sites: Mapping[str, int], latents: int) -> NoiseRecord:
        """The record of `len(keys)` rollouts; `sites` maps each site of the model to its width."""
        ...

    def gains(self, record: NoiseRecord, step: int) -> Gains:
        """Multipliers [row, 1, feature] of the sites' outputs at a step; empty when untouched."""
        ...


def prefix_safe(noise: NoiseSource) -> bool:
    """Whether the prompt may be prefilled once for all rollouts of a group."""
    return noise.diverges != "prompt"
