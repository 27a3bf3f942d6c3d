"""Checkpoints that survive a kill, hold only tensors and plain values, and resume exactly."""

from __future__ import annotations

import pickle
import signal
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from latentbench.errors import InputError
from latentbench.runtime.files import sweep_partial_files, write_atomically
from latentbench.runtime.signals import Preempted

LAST = "last.ckpt"
OWNER = "owner"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own format, written whole or not at all, and read without pickled code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        write_atomically(Path(path), lambda stream: torch.save(checkpoint, stream))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return torch.load(path, map_location="cpu", weights_only=True)


class Checkpoints(Callback):
    """Write `last.ckpt` every so many updates, at the end, and when the run is asked to stop.

    `owner` says whose it is: the run, what it starts from. It is kept in the file, and a file of
    another owner is not resumed from.
    """

    def __init__(self, folder: Path, every: int, owner: Mapping[str, str]) -> None:
        self.folder, self.every, self.owner = folder, every, dict(owner)
        self.asked_by: int | None = None

    @property
    def last(self) -> Path:
        return self.folder / LAST

    def resume_from(self) -> tuple[str | None, int]:
        """The checkpoint to resume from, if there is one, and the updates that it has done.

        Raises InputError for a file that is damaged, no checkpoint of this project, or of another
        owner.
        """
        sweep_partial_files(self.folder)
        if not self.last.is_file():
            return None, 0
        way_out = "delete it, and that training starts again from its beginning"
        try:
            checkpoint = _read_whole(self.last)
            update, owner = int(checkpoint["latentbench"]["update"]), dict(checkpoint[OWNER])
        except UNREADABLE as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
            raise InputError(
                f"{self.last}: is no whole checkpoint ({type(error).__name__}: {reason}); {way_out}"
            ) from error
        for name, value in self.owner.items():
            if owner.get(name) != value:
                raise InputError(
                    f"{self.last}: is the checkpoint of another training (its {name} is "
                    f"{owner.get(name)}, here it is {value}); {way_out}"
                )
        return str(self.last), update

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[OWNER] = self.owner

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        asked_by = self.asked_by
        if asked_by is not None or pl_module.update % self.every == 0:
            trainer.save_checkpoint(self.last)
        if asked_by is not None:
            raise Preempted(asked_by, f"stopped after update {pl_module.update}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(self.last)

    def ask_to_stop(self, signum: int, _frame: FrameType | None) -> None:
        """A signal handler: finish the update, save, stop. A second Ctrl-C does not wait."""
        if self.asked_by is not None and signum == signal.SIGINT:
            raise Preempted(signum, "stopped in the middle of an update")
        self.asked_by = signum


UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError),
    *(zipfile.BadZipFile, pickle.UnpicklingError),
)


def _read_whole(path: Path) -> dict[str, Any]:
    """The content, once every part of the file has the checksum that it was written with."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} is damaged")
    return AtomicCheckpointIO().load_checkpoint(path)
