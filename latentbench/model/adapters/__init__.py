"""Published checkpoints of others as model directories of ours. One file a source.

Each adapter reads tensors by their published names and gives back a plain GPT-2, the rows of its
special tokens, and what the latent phase needs to know. Nothing of the source's code is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Options:
    """What a source may leave open: `latents` (null: the adapter's own), attention `heads` (null:
    64 features each, as in all sizes of GPT-2), `alpha` of LoRA, `blocks` (null: as many as the
    config.json beside the file or the published GPT-2 of that width has)."""

    latents: int | None = None
    heads: int | None = None
    alpha: float = 32.0
    blocks: int | None = None


@dataclass(frozen=True)
class Converted:
    """A checkpoint in our terms.

    `state` are the tensors of a transformers GPT2LMHeadModel without its head, which is tied to the
    embeddings. `tokens` are the special tokens behind the tokenizer's own, in the order of their
    rows; `pad` is the one that pads, None for the end of text. `carrier` are the tensors of
    carrier.safetensors, empty for the hidden-state carrier; `metadata` is latentbench.json.
    """

    state: Mapping[str, torch.Tensor]
    heads: int
    tokens: tuple[str, ...]
    pad: str | None
    metadata: Mapping[str, Any]
    carrier: Mapping[str, torch.Tensor] = field(default_factory=dict)
