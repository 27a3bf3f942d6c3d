"""Rows of a data set on the Hugging Face hub; whatever goes wrong there, said in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from latentbench.errors import InputError, shorten

_COMMIT = re.compile("[0-9a-f]{40}")


def hub_records(
    hub: str, config: str | None, split: str, revision: str, local_files: str
) -> tuple[Iterable[Mapping[str, Any]], str]:
    """The rows of one split, and the commit that they were read from, whatever name `revision` has.

    `local_files` says what would do instead. Raises InputError: for a gated set how to get
    access, for a cache that holds another commit than the one asked for, else what the hub said.
    """
    import datasets

    try:
        # In two steps, because only the builder knows the commit: of the hub or, offline, of the
        # cache, in which a branch stands for whatever it was when it was fetched.
        builder = datasets.load_dataset_builder(hub, config, revision=revision)
        builder.download_and_prepare()
        rows, commit = builder.as_dataset(split=split), str(builder.hash)
    except Exception as error:
        # No common base class: offline, refused, gated, renamed and malformed each raise their
        # own.
        lines = str(error).strip().splitlines() or [""]
        said = f"{type(error).__name__}: {shorten(lines[0], 100)}"
        local = f"use local files: data.root=<directory> with {local_files}"
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
    if _COMMIT.fullmatch(revision) and commit != revision:
        raise InputError(
            f"data.root=null: {hub} at revision {revision} is not in the cache, which holds "
            f"{commit}; fetch it with a network, or use local files: data.root=<directory> with "
            f"{local_files}"
        )
    return rows, commit  # type: ignore[return-value]
