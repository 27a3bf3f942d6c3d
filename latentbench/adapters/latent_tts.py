"""The Hugging Face GPT-2s that LatentTTS published (ModalityDance/latent-tts-coconut and
latent-tts-codi; arXiv 2510.07745): a GPT-2 with the special tokens in its own tokenizer, and, for
CODI, `projector.{1,3,4}` beside it, LoRA already merged.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from latentbench.adapters import Converted, Options
from latentbench.adapters._tensors import find, gpt2, heads_of, read
from latentbench.adapters.coconut_pt import LATENTS, TEMPLATE
from latentbench.adapters.codi import metadata, projector

FILES = ("model.safetensors", "pytorch_model.bin")
PROJECTOR = {"down": "projector.1", "up": "projector.3", "norm": "projector.4"}
# Their tokenizer is GPT-2's with the same three tokens in Coconut's order.
TOKENS = ("<|start-latent|>", "<|end-latent|>", "<|latent|>")


def convert(source: str, revision: str | None, options: Options) -> Converted:
    """Raises InputError for a directory without a GPT-2."""
    state = read(find(source, revision, FILES))
    thinks_through_projector = any(name.startswith("projector.") for name in state)
    carrier = projector(state, PROJECTOR, source) if thinks_through_projector else {}
    weights = gpt2({n: t for n, t in state.items() if not n.startswith("projector.")}, source)
    return Converted(
        state=weights,
        heads=heads_of(weights, options.heads),
        tokens=TOKENS,
        pad=None,
        metadata=_metadata(carrier, options),
        carrier=carrier,
    )


def _metadata(carrier: Mapping[str, torch.Tensor], options: Options) -> dict:
    if carrier:
        return metadata(carrier, options, "codi")
    return {
        "latents": LATENTS if options.latents is None else options.latents,
        "carrier": "hidden",
        "carrier_settings": {},
        "template": TEMPLATE,
        "marker": "#",
        "budget": 64,
        "method": "coconut",
        "data": "gsm8k",
        "model": "gpt2",
    }
