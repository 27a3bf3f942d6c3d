"""What both training stages share: they count updates, optimise by hand and tell every logger."""

from __future__ import annotations

from typing import Any

import lightning

from latentbench.training.data import TrainingData


class TrainingModule(lightning.LightningModule):
    """`update` counts the finished updates; `progress` holds the metrics of the last one.

    `open_ended` says that the number of updates is not known beforehand.
    """

    open_ended = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.update = 0
        self.progress: dict[str, float] = {}

    def optimizer(self) -> Any:
        """The one optimizer, as Lightning wraps it."""
        return self.optimizers()

    def data(self) -> TrainingData:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def full_precision(self) -> bool:
        """Whether nothing is computed in fewer bits, so that replay and rollout must agree."""
        return str(self.trainer.precision) == "32-true"

    def report(self, metrics: dict[str, float]) -> None:
        """One row for every logger, at the number of finished updates."""
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.update)
        self.progress = metrics
