"""Reading published tensors: files, name prefixes, the parts of a GPT-2."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from latentbench.errors import InputError
from latentbench.model.weights import hub_file

# What FSDP, DDP and torch.compile put before the names of a module that they wrap.
WRAPPERS = ("_fsdp_wrapped_module.", "_orig_mod.", "module.")
# Buffers of older transformers, constants that are no weights.
CONSTANT = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)$")
WIDTH_OF_A_HEAD = 64
BLOCKS = {768: 12, 1024: 24, 1280: 36, 1600: 48}  # of the published GPT-2s, by their width
# From whose shapes the size of a GPT-2 is read.
NEEDED = ("h.0.attn.c_attn.weight", "h.0.mlp.c_fc.weight", "wte.weight", "wpe.weight")


def find(source: str, revision: str | None, names: Sequence[str]) -> Path:
    """The weights behind a path or a hub id: the file itself, or the first of `names` there is.

    Raises InputError where there is none.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        for name in names:
            if (path / name).is_file():
                return path / name
        raise InputError(f"source={source}: holds none of {', '.join(names)}; name the file itself")
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") != 1:
        raise InputError(f"source={source}: no such file; give a file, a directory or a hub id")
    for name in names:
        found = hub_file(source, name, revision, f"source={source}")
        if found is not None:
            return found
    raise InputError(
        f"source={source}: the hub has none of {', '.join(names)} there; download what it has and "
        "give source=<file>"
    )


def read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, wrappers stripped, without running anything stored in it.

    Raises InputError for a file that holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.PickleError) as e:
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0][:120]
        raise InputError(f"source={path}: cannot be read as tensors ({reason})") from e
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(map(torch.is_tensor, content.values())):
        raise InputError(f"source={path}: holds no state dictionary of tensors")
    return {_unwrapped(name): tensor for name, tensor in content.items()}


def _unwrapped(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def below(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with `prefix`, under the rest of their names."""
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def gpt2(
    state: Mapping[str, torch.Tensor], source: str, blocks: int | None
) -> dict[str, torch.Tensor]:
    """The weights of a GPT-2 in float32, its head left to the embeddings it is tied to.

    Raises InputError where it is no GPT-2, lacks a block or its head is not tied.
    """
    kept = {n: t.float() for n, t in state.items() if not CONSTANT.search(n)}
    head = kept.pop("lm_head.weight", None)
    table = kept.setdefault("transformer.wte.weight", head) if head is not None else None
    absent = [f"transformer.{name}" for name in NEEDED if f"transformer.{name}" not in kept]
    if absent:
        raise InputError(
            f"source={source}: no GPT-2 weights (it lacks {absent[0]}); only GPT-2 checkpoints can "
            "be converted"
        )
    if head is not None and table is not None and not torch.equal(head, table):
        raise InputError(
            f"source={source}: its lm_head.weight differs from its embeddings; GPT-2 has one matrix"
        )
    _check_blocks(kept, source, blocks)
    return kept


def _check_blocks(state: Mapping[str, torch.Tensor], source: str, blocks: int | None) -> None:
    """Refuse a file without all blocks: one that lacks its top is a smaller model by its looks."""
    width = state["transformer.wte.weight"].shape[1]
    expected = blocks or _recorded_blocks(Path(source).expanduser()) or BLOCKS.get(width)
    found = {int(name.split(".")[2]) for name in state if name.startswith("transformer.h.")}
    if expected is None:
        raise InputError(
            f"source={source}: no published GPT-2 has the width {width}, and no config.json says "
            f"how many blocks this one has; set blocks=<number> ({len(found)} are in the file)"
        )
    wrong = sorted(set(range(expected)) ^ found)
    if wrong:
        kind = "lacks" if wrong[0] not in found else "has beyond them"
        raise InputError(
            f"source={source}: of {expected} blocks it {kind} transformer.h.{wrong[0]} "
            f"({len(wrong)} in all); take a whole file, or set blocks=<number>"
        )


def _recorded_blocks(path: Path) -> int | None:
    """What a config.json beside the weights says."""
    file = (path if path.is_dir() else path.parent) / "config.json"
    try:
        count = json.loads(file.read_text()).get("n_layer") if file.is_file() else None
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: cannot be read ({error}); copy it anew") from error
    return count if isinstance(count, int) else None


def heads_of(state: Mapping[str, torch.Tensor], heads: int | None) -> int:
    """The number of attention heads, which no tensor shows."""
    width = state["transformer.wte.weight"].shape[1]
    count = heads or width // WIDTH_OF_A_HEAD
    if count < 1 or width % count:
        raise InputError(f"heads={heads}: does not divide the width {width}; set heads=<number>")
    return count
