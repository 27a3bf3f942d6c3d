"""One call of Lightning's Trainer, the same for both stages."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from latentbench.config.sections import TrainerConfig
from latentbench.runtime.checkpoints import AtomicCheckpointIO, Checkpoints
from latentbench.runtime.metrics_csv import MetricsCsv
from latentbench.runtime.progress import TrainingProgress
from latentbench.runtime.run_directory import METRICS
from latentbench.runtime.signals import Preempted, handling
from latentbench.training.data import TrainingData


def fit(
    module: Any,
    data: TrainingData,
    config: TrainerConfig,
    directory: Path,
    title: str,
    loggers: Sequence[Logger],
    owner: Mapping[str, str],
) -> None:
    """Train `module` for `data.updates` updates, from its last checkpoint where there is one.

    metrics.csv and checkpoints/ go to `directory`; `owner` says whose checkpoints they are. Raises
    Preempted on SIGTERM, SIGUSR1 and Ctrl-C, once the update is finished and the checkpoint
    written, and InputError where checkpoint or curves are damaged or another training's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(directory / "checkpoints", config.checkpoint_every, owner)
    resume, done = checkpoints.resume_from()
    curves = MetricsCsv(directory / METRICS)
    curves.rewind(done)
    total = None if module.open_ended else data.updates
    trainer = lightning.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        precision=config.precision,  # type: ignore[arg-type]
        deterministic="warn" if config.deterministic else False,
        detect_anomaly=config.detect_anomaly,
        profiler=_profiler(config.profiler, directory),
        max_epochs=1,
        logger=[curves, *loggers],
        callbacks=[checkpoints, TrainingProgress(title, total, config.progress)],
        # One process a run: what a cluster's scheduler says is no second mechanism to go on.
        plugins=[AtomicCheckpointIO(), LightningEnvironment()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=directory,
    )
    try:
        with handling(checkpoints.ask_to_stop):
            trainer.fit(module, datamodule=data, ckpt_path=resume)
    except SIGTERMException:  # Lightning saw the signal between two of our hooks
        raise Preempted(signal.SIGTERM) from None
    if done == data.updates:
        module.on_train_end()  # Lightning leaves it out where there is nothing left to train


def _profiler(kind: str | None, directory: Path) -> Any:
    from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler

    if kind is None:
        return None
    profilers = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}
    return profilers[kind](dirpath=directory, filename="profile")
