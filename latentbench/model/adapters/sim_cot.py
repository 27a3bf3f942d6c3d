"""SIM-CoT's GPT-2 checkpoints (InternLM/SIM-CoT; arXiv 2509.20317): Coconut's or CODI's layout with
an auxiliary decoder, which is for training alone and left out.

The one on Coconut has `expainable_llm.` beside `base_causallm.` and ten latents (gsm_simcot.yaml:
c_thought 2, max_latent_stage 5); the one on CODI has `decoder.`, `pj_in.` and `pj_out.`.
"""

from __future__ import annotations

from latentbench.model.adapters import Converted, Options, coconut_pt, codi
from latentbench.model.adapters._tensors import below, find, read

FILES = ("checkpoint_28", *codi.FILES)
LATENTS = 10


def convert(source: str, revision: str | None, options: Options) -> Converted:
    """Raises InputError for a file that is neither."""
    state = read(find(source, revision, FILES))
    if below(state, "base_causallm."):
        return coconut_pt.from_state(state, source, options, LATENTS, "sim_cot_coconut")
    return codi.from_state(state, source, options, "sim_cot_codi")
