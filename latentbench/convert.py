"""Published checkpoints to model directories of ours:

    python -m latentbench.convert from=<adapter> source=<file, directory or hub id> out=<directory>

Further: revision=<of the hub>, tokenizer=<directory or hub id of the base model's>,
latents=<number of slots>, heads=<attention heads>, alpha=<of LoRA>, blocks=<transformer blocks>.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from latentbench.cli import BAD_INPUT
from latentbench.errors import InputError
from latentbench.model import adapters
from latentbench.model.adapters import Converted, Options
from latentbench.model.backbone import Backbone, save
from latentbench.model.tokenizer import add_markers, load_tokenizer
from latentbench.model.weights import CARRIER
from latentbench.runtime.quiet import quieten_libraries

TOKENIZER = "openai-community/gpt2"
KEYS = ("from", "source", "revision", "out", "tokenizer", "latents", "heads", "alpha", "blocks")


@dataclass(frozen=True)
class Request:
    """One conversion, as asked for on the command line."""

    adapter: str
    source: str
    out: Path
    revision: str | None
    tokenizer: str
    options: Options


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert; 0, or 2 after one line that says what to change."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given or set(given) & {"--help", "-h"}:
        print(f"{(__doc__ or '').strip()}\n\nAdapters: {', '.join(names())}")
        return 0
    quieten_libraries()
    try:
        request = parse(given)
        convert(request)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    print(
        f"{request.out}: a model directory; python -m latentbench.evaluate checkpoint={request.out}"
    )
    return 0


def names() -> list[str]:
    """The adapters, by file name."""
    found = [module.name for module in pkgutil.iter_modules(adapters.__path__)]
    return sorted(name for name in found if not name.startswith("_"))


def parse(arguments: Sequence[str]) -> Request:
    """The request behind `key=value` arguments. Raises InputError naming the key."""
    values: dict[str, str] = {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or key not in KEYS:
            raise InputError(f"{argument}: not one of {', '.join(f'{key}=' for key in KEYS)}")
        values[key] = value
    for key in ("from", "source", "out"):
        if not values.get(key):
            raise InputError(f"{key} has no value; needed are from=, source= and out=")
    if values["from"] not in names():
        raise InputError(f"from={values['from']}: choose one of {', '.join(names())}")
    alpha = _number(values, "alpha", float, 0)
    options = Options(
        latents=_number(values, "latents", int, 0),
        heads=_number(values, "heads", int, 1),
        alpha=Options.alpha if alpha is None else alpha,
        blocks=_number(values, "blocks", int, 1),
    )
    return Request(
        adapter=values["from"],
        source=values["source"],
        out=Path(values["out"]).expanduser(),
        revision=values.get("revision"),
        tokenizer=values.get("tokenizer", TOKENIZER),
        options=options,
    )


def _number(values: dict[str, str], key: str, kind: Any, least: float) -> Any:
    if key not in values:
        return None
    try:
        number = kind(values[key])
    except ValueError:
        raise InputError(f"{key}={values[key]}: must be a number") from None
    if not number >= least:
        raise InputError(f"{key}={values[key]}: must be at least {least:g}")
    return number


def convert(request: Request) -> None:
    """Write the model directory, whole or not at all. Raises InputError."""
    out = request.out
    if out.exists():
        raise InputError(f"out={out}: exists already; choose another directory, or remove that one")
    adapter = importlib.import_module(f"latentbench.model.adapters.{request.adapter}")
    converted: Converted = adapter.convert(request.source, request.revision, request.options)
    backbone = assemble(converted, request.tokenizer)
    positions = backbone.positions
    card = (
        f"# {converted.metadata['method']}\n\nConverted from {request.source} by "
        f"`latentbench.convert from={request.adapter}`; {positions} positions.\n"
    )
    try:
        _write(request, converted, backbone, card)
    except OSError as error:
        raise InputError(
            f"out={out}: cannot be written ({error.strerror or error}); choose another directory"
        ) from error


def _write(request: Request, converted: Converted, backbone: Backbone, card: str) -> None:
    out = request.out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        written = Path(folder) / "model"
        source = {"adapter": request.adapter, "from": request.source, "revision": request.revision}
        written.mkdir()
        if converted.carrier:
            tensors = {name: tensor.contiguous() for name, tensor in converted.carrier.items()}
            save_file(tensors, written / CARRIER)
        save(backbone, written, dict(converted.metadata) | {"source": source}, card)
        written.rename(out)


def assemble(converted: Converted, tokenizer_source: str) -> Backbone:
    """The transformers model and the tokenizer of a converted checkpoint.

    Raises InputError where tokenizer and embeddings have not the same number of rows, or tensors
    are missing or left over.
    """
    from transformers import AddedToken, GPT2Config, GPT2LMHeadModel

    state = converted.state
    rows, width = state["transformer.wte.weight"].shape
    tokenizer = load_tokenizer(tokenizer_source, None)
    added = [AddedToken(token, special=True, normalized=False) for token in converted.tokens]
    tokenizer.add_tokens(added, special_tokens=True)
    tokenizer.pad_token = converted.pad or tokenizer.eos_token
    if len(tokenizer) != rows:
        raise InputError(
            f"tokenizer={tokenizer_source}: {len(tokenizer)} tokens with "
            f"{', '.join(converted.tokens)}, but the weights have {rows} rows; give the tokenizer "
            "of the base model"
        )
    eos: Any = tokenizer.eos_token_id
    blocks = {name.split(".")[2] for name in state if name.startswith("transformer.h.")}
    config = GPT2Config(
        vocab_size=rows,
        n_positions=state["transformer.wpe.weight"].shape[0],
        n_embd=width,
        n_layer=len(blocks),
        n_head=converted.heads,
        n_inner=state["transformer.h.0.mlp.c_fc.weight"].shape[1],
        bos_token_id=eos,
        eos_token_id=eos,
    )
    model: Any = GPT2LMHeadModel(config)
    try:
        found = model.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:  # a tensor of another shape
        reason = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"the checkpoint is no GPT-2 of one width ({reason})") from error
    missing = [name for name in found.missing_keys if name != "lm_head.weight"]
    if missing or found.unexpected_keys:
        wrong = missing[0] if missing else found.unexpected_keys[0]
        kind = "lacks" if missing else "has a tensor that GPT-2 has not,"
        raise InputError(f"the checkpoint {kind} {wrong}; only GPT-2 can be converted")
    model.tie_weights()
    return Backbone(model.eval(), tokenizer, add_markers(tokenizer))


if __name__ == "__main__":
    raise SystemExit(main())
