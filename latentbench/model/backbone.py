"""Models with their tokenizer: from scratch, a local directory or the hub, and back to disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
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

METADATA = "latentbench.json"
CARRIER = "carrier.safetensors"
CONFIG = "config.json"
# What a configuration says of its writing, and not of the model.
_WRITERS = ("transformers_version", "_name_or_path", "_commit_hash")
TRAINABLE = ("all", "no_embeddings", "value_projections")
# What transformers raises for files or hub repositories that are offline, gated, absent, malformed.
UNREADABLE = (OSError, ValueError, KeyError, SafetensorError)


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
        directory = _model_directory(init_path, key)
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
    return Backbone(model.eval(), tokenizer, markers)


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
    directory = _model_directory(path_or_id, key)
    source = str(directory) if directory else path_or_id
    model = _load_weights(source, None if directory else revision, key, path_or_id)
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
    return Backbone(model.eval(), tokenizer, markers)


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
    phase needs to know (`latentbench.json`)."""
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
    (directory / METADATA).write_text(json.dumps(metadata, indent=2, sort_keys=True) + "\n")
    (directory / "README.md").write_text(card)


def weights_digest(path_or_id: str, revision: str | None, key: str = "init.path") -> str:
    """An identity of weights: the hash of local bytes and of what config.json says is made of them
    (the number of heads shows in no tensor), else hub id@revision.

    Raises InputError for a config.json that cannot be read.
    """
    directory = _model_directory(path_or_id, key)
    if directory is None:
        return f"{path_or_id}@{revision or 'main'}"
    digest = hashlib.sha256(_config_of(directory, f"{key}={path_or_id}").encode())
    for file in sorted(directory.glob("*.safetensors")) or sorted(directory.glob("*.bin")):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def config_text(config: Mapping[str, Any]) -> str:
    """A transformers configuration as text, without who wrote it and where it lay."""
    kept = {name: value for name, value in config.items() if name not in _WRITERS}
    return json.dumps(kept, sort_keys=True)


def _config_of(directory: Path, where: str) -> str:
    file = directory / CONFIG
    try:
        return config_text(json.loads(file.read_text())) if file.is_file() else ""
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: its {CONFIG} cannot be read ({error}); copy it anew") from error


def metadata_of(path_or_id: str, revision: str | None, key: str) -> dict[str, Any]:
    """What `latentbench.json` says of a model directory, or of a model on the hub; {} without one.

    Raises InputError for a record that cannot be read.
    """
    directory = _model_directory(path_or_id, key)
    file: Path | None
    if directory is not None:
        file = directory / METADATA
    else:
        file = hub_file(path_or_id, METADATA, revision, f"{key}={path_or_id}")
    if file is None or not file.is_file():
        return {}
    try:
        metadata = json.loads(file.read_text())
        if isinstance(metadata, dict):
            return metadata
        reason = "not a record"
    except ValueError as error:
        reason = str(error)
    raise InputError(f"{key}={path_or_id}: its {METADATA} cannot be read ({reason}); write it anew")


def hub_file(hub_id: str, name: str, revision: str | None, where: str) -> Path | None:
    """A file of a repository on the hub; None where the hub says that it has no such file.

    Raises InputError, which begins with `where`, for whatever else keeps it from being had: no such
    repository, a gated one, a hub out of reach.
    """
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(hub_id, name, revision=revision))
    except Exception as error:
        # No common base class: offline, refused, gated and malformed each raise their own. Offline,
        # the cache remembers what the hub once said not to have.
        local = isinstance(error, LocalEntryNotFoundError)
        if local and try_to_load_from_cache(hub_id, name, revision=revision) is _CACHED_NO_EXIST:
            return None
        if isinstance(error, EntryNotFoundError) and not local:
            return None
        lines = str(error).strip().splitlines() or [""]
        raise InputError(
            f"{where}: no such directory here, and not to be had from the hub "
            f"({type(error).__name__}: {lines[0][:100]}); give a directory, or a hub id "
            "(owner/name) that can be reached"
        ) from error


def check_model(path_or_id: str, key: str) -> None:
    """Refuse a directory without a model; what is on the hub shows once it is asked for."""
    directory = _model_directory(path_or_id, key)
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
    directory = _model_directory(path_or_id, key)
    if directory is None or not (directory / METADATA).is_file():
        return {}
    try:
        record = json.loads((directory / METADATA).read_text())
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
    (`no_embeddings`), or all but the value projections (`value_projections`)."""
    for parameter in model.parameters():
        parameter.requires_grad_(which != "value_projections")
    if which == "no_embeddings":
        model.get_input_embeddings().weight.requires_grad_(False)
        model.get_output_embeddings().weight.requires_grad_(False)
    if which == "value_projections":
        for place in value_projections(model).values():
            for parameter in place.module.parameters():
                parameter.requires_grad_(True)
                if place.start:  # query and key stand in the same map
                    parameter.register_hook(_columns_from(place.start))


def _columns_from(start: int) -> Any:
    def hook(gradient: torch.Tensor) -> torch.Tensor:
        kept = torch.zeros_like(gradient)
        kept[..., start:] = gradient[..., start:]
        return kept

    return hook


def _model_directory(path_or_id: str, key: str = "init.path") -> Path | None:
    path = Path(path_or_id).expanduser()
    if (path / "model" / CONFIG).is_file():
        return path / "model"
    if path.is_dir():
        return path
    if path.is_absolute() or path_or_id.startswith((".", "~")) or path_or_id.count("/") > 1:
        raise InputError(
            f"{key}={path_or_id}: no such directory; give a run directory, a Hugging "
            "Face directory or a hub id (owner/name)"
        )
    return None


def _source(config: ModelConfig) -> tuple[str | None, str | None]:
    """Where SFT's weights come from: the directory behind `model.path`, else a hub id and its
    revision, else nowhere (from scratch)."""
    if config.path:
        directory = _model_directory(config.path, "model.path")
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
    model = _load_weights(source, revision, key, value)
    _check_architecture(model.config, config, _named(config))
    return model


def _load_weights(source: str, revision: str | None, key: str, value: str) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            source, revision=revision or "main", dtype=torch.float32
        )
    except (*UNREADABLE, RuntimeError) as error:  # the last for tensors of another shape
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise InputError(
            f"{key}={value}: no readable model ({reason}); use a local Hugging Face directory: "
            f"{'model.path' if key == 'model.hub_id' else key}=<directory>"
        ) from error


def _trained_tokenizer(path_or_id: str, source: str | None, revision: str | None, key: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, revision=revision or "main")
    except UNREADABLE as error:
        raise InputError(
            f"{key}={path_or_id}: no readable tokenizer; give a run directory, a Hugging Face "
            "directory with its tokenizer, or a hub id that can be reached"
        ) from error


def _pretrained_config(source: str, revision: str | None) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, revision=revision or "main")
    except UNREADABLE as error:
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
            return _from_scratch(config, tokenizer).config
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
