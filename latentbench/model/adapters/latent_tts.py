"""The Hugging Face GPT-2s that LatentTTS published (ModalityDance/latent-tts-coconut and
latent-tts-codi; arXiv 2510.07745): a GPT-2 with the special tokens in its own tokenizer, and, for
CODI, `projector.{1,3,4}` beside it, LoRA already merged.
"""

from __future__ import annotations

from latentbench.model.adapters import Converted, Options, coconut_pt, codi
from latentbench.model.adapters._tensors import find, gpt2, heads_of, read

FILES = ("model.safetensors", "pytorch_model.bin")
PROJECTOR = {"down": "projector.1", "up": "projector.3", "norm": "projector.4"}


def convert(source: str, revision: str | None, options: Options) -> Converted:
    """Raises InputError for a directory without a GPT-2."""
    state = read(find(source, revision, FILES))
    thinks_through_projector = any(name.startswith("projector.") for name in state)
    carrier = codi.projector(state, PROJECTOR, source) if thinks_through_projector else {}
    kept = {n: t for n, t in state.items() if not n.startswith("projector.")}
    weights = gpt2(kept, source, options.blocks)
    return Converted(
        state=weights,
        heads=heads_of(weights, options.heads),
        tokens=coconut_pt.TOKENS,  # their tokenizer has the same three in the same order
        pad=None,
        metadata=(
            codi.metadata(carrier, options, "codi")
            if carrier
            else coconut_pt.metadata(coconut_pt.LATENTS, options, "coconut")
        ),
        carrier=carrier,
    )
