"""The official Coconut code's state dictionary (facebookresearch/coconut, coconut.py and run.py).

A file `checkpoint_<epoch>` with `base_causallm.<GPT-2>` and a second name, `embedding.weight`, of
the embeddings. Its tokenizer is GPT-2's with three tokens, added in this order.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from latentbench.errors import InputError
from latentbench.model.adapters import Converted, Options
from latentbench.model.adapters._tensors import below, find, gpt2, heads_of, read

TOKENS = ("<|start-latent|>", "<|end-latent|>", "<|latent|>")
TEMPLATE = {"question_end": "\n", "step_end": "\n", "answer_start": "### "}
FILES = ("checkpoint", "pytorch_model.bin", "model.safetensors")
LATENTS = 6  # gsm_coconut.yaml: c_thought 2, max_latent_stage 3


def convert(source: str, revision: str | None, options: Options) -> Converted:
    """Raises InputError for a file that is no Coconut checkpoint."""
    return from_state(read(find(source, revision, FILES)), source, options, LATENTS, "coconut")


def from_state(
    state: Mapping[str, torch.Tensor], source: str, options: Options, latents: int, method: str
) -> Converted:
    """The model below `base_causallm.`; everything beside it is for training."""
    base = below(state, "base_causallm.")
    if not base:
        raise InputError(
            f"source={source}: no tensor begins with base_causallm.; a Coconut checkpoint was "
            "expected"
        )
    weights = gpt2(base, source, options.blocks)
    return Converted(
        state=weights,
        heads=heads_of(weights, options.heads),
        tokens=TOKENS,
        pad=None,
        metadata=metadata(latents, options, method),
    )


def metadata(latents: int, options: Options, method: str) -> dict:
    """latentbench.json of a model that thinks in its own hidden states."""
    return {
        "latents": latents if options.latents is None else options.latents,
        "carrier": "hidden",
        "carrier_settings": {},
        "template": TEMPLATE,
        "marker": "#",
        "budget": 64,
        "method": method,
        "data": "gsm8k",
        "model": "gpt2",
    }
