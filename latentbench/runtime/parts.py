"""The finished parts of an evaluation on disk: what an interrupted one does not do again."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from latentbench.errors import InputError
from latentbench.model.weights import config_text
from latentbench.runtime.files import sweep_partial_files, write_all, write_atomically
from latentbench.runtime.run_directory import PARTS

FOLDER = PARTS


@dataclass(frozen=True)
class PartFiles:
    """A folder of part files, each whole or not there, with the rows of some items.

    The folder's name says what was evaluated and how: rows of another model, benchmark or protocol
    are never found in it. No item has rows in two parts.
    """

    folder: Path

    def rows(self) -> pd.DataFrame:
        """All rows so far. Raises InputError for a part that is not as it was written."""
        frames = []
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                content = path.read_bytes()
                if _name_of(content) != path.name:
                    raise ValueError("not as it was written")
                frames.append(pd.read_parquet(io.BytesIO(content)))
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{path}: a part of the evaluation cannot be read or was changed; delete it, "
                    "and its items are answered again"
                ) from error
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def add(self, rows: pd.DataFrame) -> None:
        """Keep the rows of items that have none yet; the file's name is a hash of its content."""
        buffer = io.BytesIO()
        rows.to_parquet(buffer, index=False)
        content = buffer.getvalue()
        write_atomically(self.folder / _name_of(content), lambda stream: write_all(stream, content))

    def sweep(self) -> None:
        """Remove what a killed write left behind."""
        sweep_partial_files(self.folder)


def _name_of(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()[:16]}.parquet"


def weights_fingerprint(model: Any) -> str:
    """A hash of a model in memory: its configuration, all parameters and buffers by name."""
    settings = json.loads(model.config.to_json_string(use_diff=False))
    content = hashlib.sha256(config_text(settings).encode())
    for name, tensor in sorted(model.state_dict().items()):
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        content.update(memoryview(flat.view(torch.uint8).numpy()))
    return content.hexdigest()[:16]
