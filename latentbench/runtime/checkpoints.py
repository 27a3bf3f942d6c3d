"""Checkpoints that survive a kill, hold only tensors and plain values, and resume exactly."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from latentbench.runtime.files import sweep_partial_files, write_atomically
from latentbench.runtime.signals import Preempted

LAST = "last.ckpt"


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
    """Write `last.ckpt` every so many updates, at the end, and when the run is asked to stop."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every
        self.asked_by: int | None = None

    @property
    def last(self) -> Path:
        return self.folder / LAST

    def resume_from(self) -> str | None:
        """The checkpoint to resume from, if there is one."""
        sweep_partial_files(self.folder)
        return str(self.last) if self.last.is_file() else None

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
