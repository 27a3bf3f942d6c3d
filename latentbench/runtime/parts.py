"""The finished parts of an evaluation on disk: what an interrupted one does not do again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from latentbench.errors import InputError
from latentbench.model.backbone import config_text
from latentbench.runtime.files import sweep_partial_files, write_atomically
from latentbench.runtime.provenance import digest

FOLDER = "evaluation"


@dataclass(frozen=True)
class PartFiles:
    """A folder of part files, each whole or not there, with the rows of some items.

    The folder's name says what was evaluated and how: rows of another model, benchmark or protocol
    are never found in it. No item has rows in two parts.
    """

    folder: Path

    def rows(self) -> pd.DataFrame:
        """All rows so far. Raises InputError for a part that cannot be read."""
        frames = []
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                frames.append(pd.read_parquet(path))
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{path}: a part of the evaluation cannot be read; delete it, and its items "
                    "are answered again"
                ) from error
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def add(self, rows: pd.DataFrame) -> None:
        """Keep the rows of items that have none yet."""
        name = digest(sorted(set(rows["item"])))
        write_atomically(
            self.folder / f"{name}.parquet", lambda stream: rows.to_parquet(stream, index=False)
        )

    def sweep(self) -> None:
        """Remove what a killed write left behind."""
        sweep_partial_files(self.folder)


def weights_fingerprint(model: Any) -> str:
    """A hash of a model in memory: its configuration, all parameters and buffers by name."""
    settings = json.loads(model.config.to_json_string(use_diff=False))
    content = hashlib.sha256(config_text(settings).encode())
    for name, tensor in sorted(model.state_dict().items()):
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        content.update(memoryview(flat.view(torch.uint8).numpy()))
    return content.hexdigest()[:16]
