"""Models with their tokenizer: from scratch, a local directory or the hub, and back to disk."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from latentbench.carrier import Carrier
from latentbench.config.sections import ModelConfig
from latentbench.errors import InputError
from latentbench.keys import Key, Purpose
from latentbench.model.families import family_named, value_projections
from latentbench.model.tokenizer import MARKERS, Markers, add_markers, load_tokenizer
from latentbench.model.weights import (
    CARRIER,
    CONFIG,
    METADATA,
    check_finite,
    content_digest,
    digests,
    load_weights,
    model_directory,
    read_record,
)

TRAINABLE = ("all", "no_embeddings", "value_projections")


@dataclass(frozen=True)
class Backbone:
    """A causal LM, its tokenizer, and the ids of the latent markers."""

    model: Any
    tokenizer: Any
    markers: Markers

    @property
    def forbidden(self) -> tuple[int, ...]:
        """Ids that answers never hold: the markers, padding where it is a token of its own, and
        rows beyond the tokenizer, to which some vocabularies are filled up (Qwen's)."""
        beyond = range(len(self.tokenizer), self.model.config.vocab_size)
        return tuple(sorted({*_unwritable(self.markers), *beyond} - {self.markers.eos}))

    @property
    def ends(self) -> tuple[int, ...]:
        """What ends a text beside the tokenizer's own end: chat models name several."""
        named = self.model.generation_config.eos_token_id
        several = named if isinstance(named, list) else [] if named is None else [named]
        known = range(self.model.config.vocab_size)
        return tuple(sorted({end for end in several if end in known} - {self.markers.eos}))

    @property
    def positions(self) -> int:
        return self.model.config.max_position_embeddings


@dataclass(frozen=True)
class Outline:
    """What can be known of a model without its weights: its tokenizer and its positions."""

    tokenizer: Any
    markers: Markers
    positions: int

    @property
    def writable(self) -> int:
        """How many token types answers and mixtures can hold."""
        return len(self.tokenizer) - len(_unwritable(self.markers) - {self.markers.eos})


def _unwritable(markers: Markers) -> set[int]:
    return {markers.start, markers.latent, markers.end, markers.pad}


def outline(
    config: ModelConfig, init_path: str | None, revision: str | None, key: str = "init.path"
) -> Outline:
    """Tokenizer and positions of the model that a run will use, before anything is trained.

    `key` is what messages call `init_path`.
    """
    if init_path is not None:
        directory = model_directory(init_path, key)
        source: str | None = str(directory) if directory else init_path
        tokenizer = _trained_tokenizer(init_path, source, revision, key)
    else:
        source, revision = _source(config)
        tokenizer = _starting_tokenizer(config, source)
    if source:
        settings = _pretrained_config(source, revision)
        where = f"{key}={init_path}" if init_path else _named(config)
        family_named(settings.model_type, where)
        _check_architecture(settings, config, where)
    else:
        settings = _possible_config(config, tokenizer)
    return Outline(tokenizer, add_markers(tokenizer), settings.max_position_embeddings)


def create(config: ModelConfig, key: Key, carrier: Carrier) -> Backbone:
    """The model that SFT starts from, in float32, with the latent markers in its vocabulary and the
    carrier's own weights, where it has any.

    The rows of the markers start as copies of the row of `<<` (official run.py), unless the weights
    were trained with latents already. Raises InputError where weights or tokenizer cannot be had,
    or the weights are of another architecture.
    """
    source, revision = _source(config)
    tokenizer = _starting_tokenizer(config, source)
    trained = (trained_latents(source) if source else None) or 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key.integer())
        model = (
            _pretrained(config, source, revision) if source else _from_scratch(config, tokenizer)
        )
        known = tokenizer.get_vocab() if trained > 0 else {}
        new = [marker for marker in MARKERS if marker not in known]
        markers = add_markers(tokenizer)
        _extend(model, tokenizer, carrier)
        if source and (Path(source) / CARRIER).is_file():
            _load_carrier(carrier, model, source, f"{_named(config)}")
    if new:
        _copy_rows(model, tokenizer, [tokenizer.convert_tokens_to_ids(m) for m in new])
    set_dropout(model, 0.0)
    _check_head(model.eval(), _named(config) if source else f"model={config.name}")
    return Backbone(model, tokenizer, markers)


def load(
    path_or_id: str,
    revision: str | None,
    expected: ModelConfig,
    latent: bool,
    carrier: Carrier,
    key: str = "init.path",
) -> Backbone:
    """A trained latent model from a run directory, a Hugging Face directory or the hub.

    Raises InputError where it cannot be had, lacks the latent markers though the layout needs them,
    lacks the weights of a carrier that has some, or is of another architecture than `model` says.
    """
    directory = model_directory(path_or_id, key)
    source = str(directory) if directory else path_or_id
    model = load_weights(source, None if directory else revision, key, path_or_id)
    where = f"{key}={path_or_id}"
    _check_architecture(model.config, expected, where)
    tokenizer = _trained_tokenizer(path_or_id, source, revision, key)
    vocabulary = tokenizer.get_vocab()
    if latent and any(marker not in vocabulary for marker in MARKERS):
        raise InputError(
            f"{where}: its tokenizer lacks {', '.join(MARKERS)}, so it is no latent "
            f"reasoner; train one with method=coconut, or take another {key}"
        )
    markers = add_markers(tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Key(0, Purpose.WEIGHTS).integer())  # the same model at every load
        _extend(model, tokenizer, carrier)
    _load_carrier(carrier, model, source, where)
    set_dropout(model, 0.0)
    _check_head(model.eval(), where)
    return Backbone(model, tokenizer, markers)


def _extend(model: Any, tokenizer: Any, carrier: Carrier) -> None:
    """Give the model a row for every token, and the weights of a carrier that has some, freshly
    drawn from PyTorch's own generator."""
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    carrier.build(model)


def _load_carrier(carrier: Carrier, model: Any, source: str, where: str) -> None:
    if not carrier.has_weights:
        return
    file = Path(source) / CARRIER
    if not file.is_file():
        raise InputError(
            f"{where}: has no {CARRIER}, the weights of carrier={type(carrier).__name__.lower()}; "
            "take a model that was trained with it, or another carrier"
        )
    try:
        model.latent_carrier.load_state_dict(load_file(file))
    except (RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"{where}: its {CARRIER} does not fit the carrier ({reason})") from error


def save(backbone: Backbone, directory: Path, metadata: dict[str, Any], card: str) -> None:
    """A Hugging Face directory: safetensors, config, tokenizer, model card, and what the latent
    phase needs to know (`latentbench.json`), the digest of the weights among it.

    Raises NotFinite for weights that are no numbers.
    """
    check_finite(backbone.model, "the weights to be saved")
    directory.mkdir(parents=True, exist_ok=True)
    carrier = getattr(backbone.model, "latent_carrier", None)
    if carrier is None:
        backbone.model.save_pretrained(directory)
    else:
        weights = backbone.model.state_dict()
        own = {k: v for k, v in weights.items() if not k.startswith("latent_carrier.")}
        backbone.model.save_pretrained(directory, state_dict=own)
        save_file({k: v.contiguous() for k, v in carrier.state_dict().items()}, directory / CARRIER)
    backbone.tokenizer.save_pretrained(directory)
    metadata = metadata | {
        "weights": content_digest(directory, str(directory)),
        "files": digests(directory),
    }
    (directory / METADATA).write_text(json.dumps(metadata, indent=2, sort_keys=True) + "\n")
    (directory / "README.md").write_text(card)
    mode = (directory / METADATA).stat().st_mode  # that of the umask; safetensors keeps to 0600
    for file in directory.iterdir():
        file.chmod(mode)


def check_model(path_or_id: str, key: str) -> None:
    """Refuse a directory without a model; what is on the hub shows once it is asked for."""
    directory = model_directory(path_or_id, key)
    if directory is not None and not (directory / CONFIG).is_file():
        raise InputError(
            f"{key}={path_or_id}: holds no model ({CONFIG}); give a run directory or a Hugging "
            "Face directory"
        )


def trained_latents(path_or_id: str, key: str = "init.path") -> int | None:
    """How many latent slots the weights of a local directory were trained with.

    None where no latentbench run wrote them, or they are not here. Raises InputError for a record
    that cannot be read.
    """
    record = recorded_origin(path_or_id, key)
    return int(record["latents"]) if record else None


def recorded_origin(path_or_id: str, key: str = "init.path") -> dict[str, Any]:
    """What a local directory says of its latent phase and of how it was made; empty where no
    latentbench run wrote it, or it is not here. Raises InputError for a record that cannot be
    read."""
    directory = model_directory(path_or_id, key)
    record = {} if directory is None else read_record(directory, f"{key}={path_or_id}")
    if not record:
        return {}
    try:
        int(record["latents"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{key}={path_or_id}: its {METADATA} cannot be read; take the model of another run"
        ) from error
    return record


def set_dropout(model: Any, rate: float) -> None:
    """Set every dropout of the model itself (embedding, attention, residual) to one rate."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        elif hasattr(module, "attention_dropout"):
            module.attention_dropout = rate


def train_only(model: Any, which: str) -> None:
    """Freeze what is not to be trained: nothing (`all`), the embeddings and the LM head
    (`no_embeddings`), or all but the weights of the value projections (`value_projections`)."""
    for parameter in model.parameters():
        parameter.requires_grad_(which != "value_projections")
    if which == "no_embeddings":
        model.get_input_embeddings().weight.requires_grad_(False)
        model.get_output_embeddings().weight.requires_grad_(False)
    if which == "value_projections":
        for place in value_projections(model).values():
            weight: Any = place.module.weight  # not its bias, as in SVP
            weight.requires_grad_(True)
            if place.start:  # query and key stand in the same map
                weight.register_hook(_columns_from(place.start))


def _columns_from(start: int) -> Any:
    def hook(gradient: torch.Tensor) -> torch.Tensor:
        kept = torch.zeros_like(gradient)
        kept[..., start:] = gradient[..., start:]
        return kept

    return hook


def _source(config: ModelConfig) -> tuple[str | None, str | None]:
    """Where SFT's weights come from: the directory behind `model.path`, else a hub id and its
    revision, else nowhere (from scratch)."""
    if config.path:
        directory = model_directory(config.path, "model.path")
        if directory is None:
            raise InputError(
                f"model.path={config.path}: no such directory; give a run directory or a Hugging "
                "Face directory"
            )
        return str(directory), None
    return config.hub_id, config.revision


def _named(config: ModelConfig) -> str:
    return f"model.path={config.path}" if config.path else f"model.hub_id={config.hub_id}"


def _starting_tokenizer(config: ModelConfig, source: str | None) -> Any:
    """The tokenizer of SFT; weights that a run of ours wrote have their own, whatever the model's
    file names."""
    if source and config.path and (Path(source) / METADATA).is_file():
        return load_tokenizer(source, None)
    return load_tokenizer(config.tokenizer or source or "character", config.revision)


def _pretrained(config: ModelConfig, source: str, revision: str | None) -> Any:
    key, _, value = _named(config).partition("=")
    model = load_weights(source, revision, key, value)
    _check_architecture(model.config, config, _named(config))
    return model


def _trained_tokenizer(path_or_id: str, source: str | None, revision: str | None, key: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            source, revision=revision or "main", trust_remote_code=False
        )
    except Exception as error:  # no common base class
        raise InputError(
            f"{key}={path_or_id}: no readable tokenizer; give a run directory, a Hugging Face "
            "directory with its tokenizer, or a hub id that can be reached"
        ) from error


def _pretrained_config(source: str, revision: str | None) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            source, revision=revision or "main", trust_remote_code=False
        )
    except Exception as error:  # no common base class
        raise InputError(
            f"model: {source} cannot be read as a model; use a local Hugging Face directory: "
            "model.path=<directory>"
        ) from error


def _from_scratch(config: ModelConfig, tokenizer: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(_scratch_config(config, tokenizer), dtype=torch.float32)


def _scratch_config(config: ModelConfig, tokenizer: Any) -> Any:
    from transformers import AutoConfig

    architecture = dict(config.architecture)
    family = architecture.pop("model_type", None)
    if family is None:
        raise InputError(
            f"model={config.name}: has neither path, hub_id nor architecture.model_type; set one"
        )
    family_named(family, f"model.architecture.model_type={family}")
    defaults = AutoConfig.for_model(family)
    unknown = [name for name in architecture if not hasattr(defaults, name)]
    if unknown:
        raise InputError(
            f"model.architecture.{unknown[0]}: {type(defaults).__name__} has no such key"
        )
    eos = tokenizer.eos_token_id
    return AutoConfig.for_model(
        family, **architecture, vocab_size=len(tokenizer), bos_token_id=eos, eos_token_id=eos
    )


def _possible_config(config: ModelConfig, tokenizer: Any) -> Any:
    """The configuration of a model from scratch, once such a model has been built without memory.

    Raises InputError for sizes that do not go together.
    """
    for name, value in config.architecture.items():
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise InputError(f"model.architecture.{name}={value}: must be at least 1")
    try:
        with torch.device("meta"):
            model = _from_scratch(config, tokenizer)
        _check_memory(model, config)
        return model.config
    except InputError:
        raise
    except Exception as error:
        # No common base class: wrong types, unknown activations and odd sizes each raise their own.
        reason = " ".join(str(error).split())[:160]
        shape = ", ".join(f"{name}={value}" for name, value in config.architecture.items())
        raise InputError(
            f"model.architecture: no such model can be built ({type(error).__name__}: {reason}); "
            f"given {shape}"
        ) from error


def _check_memory(model: Any, config: ModelConfig) -> None:
    """Refuse a model whose weights, gradient and two moments this machine could never hold."""
    if not hasattr(os, "sysconf"):
        return  # a system that does not say
    needed = 4 * 4 * sum(parameter.numel() for parameter in model.parameters())
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        shape = ", ".join(f"{name}={value}" for name, value in config.architecture.items())
        raise InputError(
            f"model.architecture: training it takes {needed / 2**30:,.0f} GiB, this machine has "
            f"{there / 2**30:,.0f}; given {shape}"
        )


@torch.no_grad()
def _check_head(model: Any, where: str) -> None:
    """Refuse a model whose logits are more than its head on the last hidden state: soft caps and
    logit scales would be left out of every law that is sampled from and scored."""
    ids = torch.arange(2)[None]
    hidden = model.base_model(input_ids=ids).last_hidden_state
    expected, found = model(input_ids=ids).logits, model.get_output_embeddings()(hidden)
    gap = float((expected - found).abs().max())
    if not gap <= 1e-4 * max(1.0, float(expected.abs().max())):
        raise InputError(
            f"{where}: its logits are not its head's alone (they differ by up to {gap:.2g}: a soft "
            "cap or a scale); such models cannot be used, take one of another family"
        )


def _check_architecture(found: Any, expected: ModelConfig, where: str) -> None:
    free = (family_named(found.model_type, where).positions, "initializer_range")
    for name, value in expected.architecture.items():
        if getattr(found, name, None) != value and name not in free:
            raise InputError(
                f"{where}: its {name} is {getattr(found, name, None)}, but model={expected.name} "
                f"has {name}={value}; choose the model that it is, or other weights"
            )


@torch.no_grad()
def _copy_rows(model: Any, tokenizer: Any, new: list[int]) -> None:
    source = tokenizer("<<", add_special_tokens=False)["input_ids"][0]
    tables = [model.get_input_embeddings().weight]
    head = model.get_output_embeddings().weight
    if head.data_ptr() != tables[0].data_ptr():
        tables.append(head)
    for table in tables:
        table[new] = table[source].clone()
