"""One supervised pass over some rows: prompt, latent slots, text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from latentbench.records import NoiseRecord, SftRow, Text, Thoughts, collate_prompts, collate_text

if TYPE_CHECKING:
    from latentbench.model.policy import Policy


@dataclass(frozen=True)
class Pass:
    """`layers` [layer, row, token, feature] are the hidden states from which each token of `text`
    is predicted: those of the last layer alone, or of every block."""

    text: Text
    thoughts: Thoughts
    layers: torch.Tensor


def supervised_pass(
    policy: Policy, rows: Sequence[SftRow], pad: int, every_layer: bool = False
) -> Pass:
    """Read the rows' text after their latent phase, without noise."""
    prompts = collate_prompts([row.prompt for row in rows], pad, policy.device)
    text = collate_text([row.text for row in rows], pad, policy.device)
    record = NoiseRecord()
    state, thoughts = policy.latent_phase(prompts, record, group_size=1)
    if every_layer:
        return Pass(text, thoughts, policy.read_layers(state, prompts.cue, record, text))
    return Pass(text, thoughts, policy.read(state, prompts.cue, record, text)[None])


def summed_cross_entropy(policy: Policy, run: Pass) -> torch.Tensor:
    """The summed cross-entropy of a pass's text tokens."""
    real = run.text.mask.bool()
    logits = policy.model.get_output_embeddings()(run.layers[-1][real])
    return torch.nn.functional.cross_entropy(logits, run.text.ids[real], reduction="sum")


def text_tokens(rows: Sequence[SftRow]) -> int:
    """How many tokens the rows' texts have."""
    return sum(len(row.text) for row in rows)
