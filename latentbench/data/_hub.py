"""Rows of a data set on the Hugging Face hub; whatever goes wrong there, said in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from latentbench.errors import InputError, shorten


def hub_records(
    hub: str, config: str | None, split: str, revision: str, layout: str
) -> Iterator[Mapping[str, Any]]:
    """The rows of one split; `layout` says which local files would do instead.

    Raises InputError: for a gated set how to get access, else what the hub said.
    """
    import datasets

    try:
        yield from datasets.load_dataset(hub, config, split=split, revision=revision)  # type: ignore
    except Exception as error:
        # No common base class: offline, refused, gated, renamed and malformed each raise their
        # own.
        lines = str(error).strip().splitlines() or [""]
        said = f"{type(error).__name__}: {shorten(lines[0], 100)}"
        local = f"use local files: data.root=<directory> with {layout}"
        if "gated" in f"{said} {error}".casefold():
            raise InputError(
                f"data.root=null: {hub} is gated ({type(error).__name__}): accept its terms at "
                f"https://huggingface.co/datasets/{hub} and set HF_TOKEN to a token of that "
                f"account, or {local}"
            ) from error
        raise InputError(
            f"data.root=null: {hub} ({split}, revision {revision}) cannot be had from the hub "
            f"({said}); {local}"
        ) from error
