"""Checkpoints that survive a kill, hold nothing but tensors and plain values, and resume exactly."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from latentbench.runtime.files import sweep_partial_files, write_atomically

LAST = "last.ckpt"


class Preempted(Exception):
    """The run was asked to stop (SIGTERM); its checkpoint is written."""


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
    """Write `last.ckpt` every so many updates and when the run is asked to stop."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every
        self.asked_to_stop = False
        self._previous: Any = None

    @property
    def last(self) -> Path:
        return self.folder / LAST

    def resume_from(self) -> str | None:
        """The checkpoint to resume from, if there is one."""
        sweep_partial_files(self.folder)
        return str(self.last) if self.last.is_file() else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._previous = signal.signal(signal.SIGTERM, self._stop)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.asked_to_stop or pl_module.update % self.every == 0:
            trainer.save_checkpoint(self.last)
        if self.asked_to_stop:
            raise Preempted(f"stopped after update {pl_module.update}; {self.last} resumes it")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(self.last)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked_to_stop = True
