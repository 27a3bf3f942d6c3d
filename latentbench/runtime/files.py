"""Files that are either whole or not there."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file beside its place, flush it to disk, then move it there in one step.

    The temporary file lies in the same folder, hence on the same file system: a kill at any moment
    leaves the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with temporary.open("xb") as stream:  # with the mode that the umask gives
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, sorted and indented."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=True) + "\n"
    write_atomically(path, lambda stream: write_all(stream, text.encode()))


def sweep_partial_files(folder: Path) -> None:
    """Remove what a killed write left behind."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def write_all(stream: BinaryIO, content: bytes) -> None:
    """Write bytes and return nothing, as `write_atomically` wants it."""
    stream.write(content)
