"""Weights on disk: found, known by their content, and read only when they are whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from latentbench.errors import InputError, NotFinite, shorten

METADATA = "latentbench.json"
CARRIER = "carrier.safetensors"
CONFIG = "config.json"
ADAPTER = "adapter_config.json"
# What a configuration says of its writing, and not of the model.
_WRITERS = ("transformers_version", "_name_or_path", "_commit_hash")
# Small files beside the weights that decide what a text is and where it ends.
BESIDE = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("vocab.json", "merges.txt", "generation_config.json"),
)


def model_directory(path_or_id: str, key: str = "init.path") -> Path | None:
    """The directory of a model: that of a run, or itself; None for what can only be a hub id.

    Raises InputError for a path that is not there.
    """
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


def load_weights(source: str, revision: str | None, key: str, value: str) -> Any:
    """The causal LM behind a directory or a hub id, in float32, every tensor from its file.

    Raises InputError where it cannot be read, where tensors are missing, left over or changed since
    they were saved, or where an adapter lies beside them. No code of the source is run.
    """
    from transformers import AutoModelForCausalLM

    where = f"{key}={value}"
    if Path(source).is_dir():
        _refuse_adapter(Path(source), where)
        check_content(Path(source), where)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision or "main",
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # offline, gated, malformed, of another shape: no common base class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise InputError(
            f"{where}: no readable model ({reason}); use a local Hugging Face directory: "
            f"{'model.path' if key == 'model.hub_id' else key}=<directory>"
        ) from error
    model, found = loaded
    check_names(found["missing_keys"], found["unexpected_keys"], where)
    check_finite(model, where)
    return model


def check_finite(model: Any, where: str) -> None:
    """Raise NotFinite for weights that are infinite or no numbers; `where` says of which moment."""
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            count = int((~parameter.isfinite()).sum())
            raise NotFinite(
                f"{where}: {name} holds {count} numbers that are not finite; lower the learning "
                "rate, or take sound weights"
            )


def check_names(missing: Collection[str], unexpected: Collection[str], where: str) -> None:
    """Refuse weights that lack tensors of the model or hold others, by the first name and count."""
    wrong = [
        f"{said} {len(names)} tensor{'s' * (len(names) > 1)}, first {min(names)}"
        for said, names in (("lacks", missing), ("has beyond the model", unexpected))
        if names
    ]
    if wrong:
        raise InputError(
            f"{where}: its weights are not those of its {CONFIG}: it {', and it '.join(wrong)}; "
            "take a whole copy under the model's own names"
        )


def _refuse_adapter(directory: Path, where: str) -> None:
    if (directory / ADAPTER).is_file() or any(directory.glob("adapter_model.*")):
        raise InputError(
            f"{where}: an adapter lies there ({ADAPTER}), which would be left out; merge it into "
            "the weights first, or move it away"
        )


def check_content(directory: Path, where: str) -> None:
    """Refuse weights that are not what this project saved there: a changed or foreign file.

    Directories that others wrote have no digest, and nothing to compare with.
    """
    record = read_record(directory, where)
    files = record.get("files")
    if isinstance(files, dict):
        found = digests(directory)
        wrong = sorted(n for n in {*files, *found} if files.get(n) != found.get(n))
        if wrong:
            raise InputError(
                f"{where}: its {wrong[0]} is not the file that was saved there; take a whole copy"
            )
    saved = record.get("weights")
    if saved is not None and saved != content_digest(directory, where):
        raise InputError(
            f"{where}: its weights are not those that were saved there ({METADATA} says {saved}); "
            "take a whole copy, or train it again"
        )


def digests(directory: Path) -> dict[str, str]:
    """The sha256 of the small files beside the weights, of those that are there."""
    found = [directory / name for name in BESIDE if (directory / name).is_file()]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in found}


def weights_digest(path_or_id: str, revision: str | None, key: str = "init.path") -> str:
    """An identity of weights: the hash of local bytes and of what config.json says is made of them
    (the number of heads shows in no tensor), else hub id@revision.

    Raises InputError for a config.json that cannot be read.
    """
    directory = model_directory(path_or_id, key)
    if directory is None:
        return f"{path_or_id}@{revision or 'main'}"
    return content_digest(directory, f"{key}={path_or_id}")


def content_digest(directory: Path, where: str) -> str:
    """`weights_digest` of a directory."""
    digest = hashlib.sha256(_config_of(directory, where).encode())
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
    directory, where = model_directory(path_or_id, key), f"{key}={path_or_id}"
    if directory is not None:
        return read_record(directory, where)
    file = hub_file(path_or_id, METADATA, revision, where)
    return {} if file is None else read_record(file.parent, where)


def read_record(directory: Path, where: str) -> dict[str, Any]:
    """`latentbench.json` of a directory; {} without one. Raises InputError."""
    file = directory / METADATA
    if not file.is_file():
        return {}
    try:
        metadata = json.loads(file.read_text())
        if isinstance(metadata, dict):
            return metadata
        reason = f"{shorten(str(metadata))} is not a record"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise InputError(f"{where}: its {METADATA} cannot be read ({reason}); write it anew")


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
