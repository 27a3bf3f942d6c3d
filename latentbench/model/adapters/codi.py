"""CODI's GPT-2 (zhenyi4/codi, src/model.py and test.py; arXiv 2502.21074).

`codi.base_model.model.<GPT-2>` with LoRA beside its linear maps, and the projector `prj.{1,3,ln}`.
Three rows follow GPT-2's own: padding, begin and end of thought. The prompt is the question and
the begin marker (`--remove_eos True`, as GPT-2 was published), the answer `The answer is: 7`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from latentbench.errors import InputError
from latentbench.model.adapters import Converted, Options
from latentbench.model.adapters._tensors import below, find, gpt2, heads_of, read

FILES = ("model.safetensors", "pytorch_model.bin", "model-00001-of-00001.safetensors")
TOKENS = ("[PAD]", "<|start-latent|>", "<|end-latent|>", "<|latent|>")
TEMPLATE = {"question_end": "", "step_end": " ", "answer_start": "The answer is: "}
LATENTS = 6  # scripts/test_gpt2.sh: --inf_latent_iterations 6
PROJECTOR = {"down": "prj.1", "up": "prj.3", "norm": "prj.ln"}


def convert(source: str, revision: str | None, options: Options) -> Converted:
    """Raises InputError for a file that is no CODI checkpoint."""
    return from_state(read(find(source, revision, FILES)), source, options, "codi")


def from_state(
    state: Mapping[str, torch.Tensor], source: str, options: Options, method: str
) -> Converted:
    """The model below `codi.`, LoRA merged, with its projector; a decoder is for training."""
    base = below(state, "codi.base_model.model.") or below(state, "codi.")
    if not base:
        raise InputError(
            f"source={source}: no tensor begins with codi.; a CODI checkpoint was expected"
        )
    weights = gpt2(merged(base, options.alpha, source), source, options.blocks)
    carrier = projector(state, PROJECTOR, source)
    return Converted(
        state=_with_row_for_latent(weights),
        heads=heads_of(weights, options.heads),
        tokens=TOKENS,
        pad=TOKENS[0],
        metadata=metadata(carrier, options, method),
        carrier=carrier,
    )


def merged(state: Mapping[str, torch.Tensor], alpha: float, source: str) -> dict[str, torch.Tensor]:
    """Weights with their LoRA added: W + (alpha / r) (B A)^T, GPT-2's maps being [in, out].

    Raises InputError for half a LoRA, or one beside no weight.
    """
    plain: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if ".lora_" not in name:
            plain[name.replace(".base_layer.", ".")] = tensor.float()
    for name, tensor in state.items():
        if ".lora_A." in name:
            other = name.replace(".lora_A.", ".lora_B.")
            target = name.partition(".lora_A.")[0] + ".weight"
            if other not in state or target not in plain:
                lacking = target if other in state else other
                raise InputError(f"source={source}: has {name} but no {lacking}; copy it again")
            down, up = tensor.double(), state[other].double()
            change = (up @ down).T * (alpha / down.shape[0])
            plain[target] = (plain[target].double() + change).float()
    return plain


def projector(
    state: Mapping[str, torch.Tensor], names: Mapping[str, str], source: str
) -> dict[str, torch.Tensor]:
    """The tensors of carrier.safetensors: two linear maps and a layer norm."""
    found: dict[str, torch.Tensor] = {}
    for ours, theirs in names.items():
        for part in ("weight", "bias"):
            if f"{theirs}.{part}" not in state:
                raise InputError(
                    f"source={source}: has no {theirs}.{part}; only CODI with a projector and its "
                    "layer norm can be converted"
                )
            found[f"{ours}.{part}"] = state[f"{theirs}.{part}"].float()
    return found


def metadata(carrier: Mapping[str, torch.Tensor], options: Options, method: str) -> dict:
    """latentbench.json of a model that thinks through a projector."""
    return {
        "latents": LATENTS if options.latents is None else options.latents,
        "carrier": "projector",
        "carrier_settings": {"width": carrier["down.weight"].shape[0]},
        "template": TEMPLATE,
        "marker": "The answer is:",
        "budget": 256,
        "method": method,
        "data": "gsm8k",
        "model": "gpt2",
    }


def _with_row_for_latent(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """CODI knows no token for a slot; its row is never read, nor can it be written."""
    table = weights["transformer.wte.weight"]
    return weights | {
        "transformer.wte.weight": torch.cat([table, table.new_zeros(1, table.shape[1])])
    }
