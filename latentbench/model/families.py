"""Model families: where the blocks of a Hugging Face causal LM have what noise acts on.

A new family is one entry of `FAMILIES`: its `model_type`, its blocks, the last linear maps of
their two residual branches and the map of their value projections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from latentbench.errors import InputError
from latentbench.noise import Site


@dataclass(frozen=True)
class Family:
    """`blocks` is the path from the base model to its blocks; `attention` and `mlp` lead from a
    block to the last linear map of each residual branch, `value` to the map that computes values.

    Values are the columns of that map's output after `values_after` times the hidden size: GPT-2
    computes queries, keys and values in one. `positions` is the key of the configuration that says
    how many there are. `inputs_first`: weights are [input, output]; nn.Linear has the reverse.
    """

    blocks: str
    attention: str
    mlp: str
    value: str
    values_after: int = 0
    positions: str = "max_position_embeddings"
    inputs_first: bool = False


LLAMA = Family("layers", "self_attn.o_proj", "mlp.down_proj", "self_attn.v_proj")
FAMILIES: Mapping[str, Family] = {
    "gpt2": Family(
        blocks="h",
        attention="attn.c_proj",
        mlp="mlp.c_proj",
        value="attn.c_attn",
        values_after=2,
        positions="n_positions",
        inputs_first=True,
    ),
    "llama": LLAMA,
    "qwen2": LLAMA,
    "mistral": LLAMA,
}


def family_named(name: str, where: str) -> Family:
    """The family of a `model_type`. Raises InputError, which begins with `where`."""
    if name not in FAMILIES:
        raise InputError(
            f"{where}: models of the family {name} are not known here; choose one of "
            f"{', '.join(FAMILIES)}, or add it to latentbench/model/families.py"
        )
    return FAMILIES[name]


def family_of(model: Any) -> Family:
    """The family of a model. Raises InputError for one that is not known here."""
    return family_named(model.config.model_type, "model")


def residual_branches(model: Any) -> dict[str, nn.Module]:
    """The last linear map of both residual branches of every block, by site name."""
    family = family_of(model)
    return {
        f"{kind}.{index}": block.get_submodule(path)
        for index, block in enumerate(model.base_model.get_submodule(family.blocks))
        for kind, path in (("attention", family.attention), ("mlp", family.mlp))
    }


@dataclass(frozen=True)
class ValueProjection:
    """The value projection of a block: the columns `start` and on of a linear map's output."""

    module: nn.Module
    start: int
    inputs_first: bool

    def site(self) -> Site:
        """The site with its weight [input, output], as it is now."""
        weight: Any = self.module.weight
        columns = weight.detach() if self.inputs_first else weight.detach().T
        return Site(columns.shape[1] - self.start, columns[:, self.start :])


def value_projections(model: Any) -> dict[str, ValueProjection]:
    """The value projection of every block, by site name."""
    family = family_of(model)
    start = family.values_after * model.config.hidden_size
    blocks = model.base_model.get_submodule(family.blocks)
    return {
        f"value.{index}": ValueProjection(
            block.get_submodule(family.value), start, family.inputs_first
        )
        for index, block in enumerate(blocks)
    }
