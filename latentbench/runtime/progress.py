"""Progress a person likes: bars in a terminal, plain lines everywhere else."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = logging.getLogger(__name__)

SHOWN = {
    "train/stage": ("stage", "{:.0f}"),
    "train/loss": ("loss", "{:.4f}"),
    "train/reward_mean": ("reward", "{:.3f}"),
    "train/zero_variance_groups": ("zero-variance", "{:.0%}"),
    "validation/pass@1": ("validation", "{:.1%}"),
}
PLAIN_LINES = 10
PLAIN_EVERY = 100


def choose(mode: str) -> str:
    """`auto` is bars in a terminal and plain lines elsewhere."""
    return mode if mode != "auto" else "rich" if sys.stdout.isatty() else "plain"


def describe(metrics: dict[str, float]) -> str:
    """The metrics that are worth a glance, in a line."""
    return "  ".join(
        f"{label} {form.format(metrics[name])}"
        for name, (label, form) in SHOWN.items()
        if name in metrics
    )


class Bar:
    """A bar of `total` steps, or about ten plain lines in its place; None where nobody knows."""

    def __init__(self, title: str, total: int | None, mode: str, done: int = 0) -> None:
        self.title, self.total, self.done = title, total, done
        self.started, self.first = time.monotonic(), done
        self.rich = _rich_bar() if choose(mode) == "rich" else None
        self.plain = choose(mode) == "plain"
        if self.rich is not None:
            self.rich.start()
            self.task = self.rich.add_task(title, total=total, completed=done, note="")

    def advance(self, by: int = 1, note: str = "") -> None:
        before, self.done = self.done, self.done + by
        if self.rich is not None:
            self.rich.update(self.task, advance=by, note=note)
        elif self.plain and self._line(self.done) > self._line(before):
            of = "" if self.total is None else f"/{self.total}"
            log.info("%s %d%s  %s  %s", self.title, self.done, of, note, self._left())

    def close(self) -> None:
        if self.rich is not None:
            self.rich.stop()

    def _line(self, done: int) -> int:
        if self.total is None:
            return done // PLAIN_EVERY
        return done * PLAIN_LINES // max(self.total, 1)

    def _left(self) -> str:
        if self.total is None:
            return ""
        seconds = (time.monotonic() - self.started) / max(self.done - self.first, 1)
        return f"{seconds * (self.total - self.done):.0f} s left"


class TrainingProgress(Callback):
    """The bar of a training stage."""

    def __init__(self, title: str, total: int | None, mode: str) -> None:
        self.title, self.total, self.mode = title, total, mode
        self.bar: Bar | None = None

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.bar = Bar(self.title, self.total, self.mode, done=pl_module.update)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self.bar is not None
        self.bar.advance(1, describe(pl_module.progress))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        if self.bar is not None:
            self.bar.close()


def _rich_bar() -> Progress:
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(),
    )
