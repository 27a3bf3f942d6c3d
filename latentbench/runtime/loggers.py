"""Loggers beside the CSV file: W&B and TensorBoard, chosen by `logger=`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from lightning.pytorch.loggers import Logger

from latentbench.errors import InputError
from latentbench.runtime.run_directory import RunDirectory, plain
from latentbench.schema import Config, TensorboardConfig, WandbConfig


WANDB_MODES = ("online", "offline", "disabled", "shared")


def check_loggers(config: Config) -> None:
    """Refuse a logger that could not start, before anything is trained."""
    for choice in config.logger.values():
        if isinstance(choice, WandbConfig):
            _check_wandb(choice)


def _check_wandb(choice: WandbConfig) -> None:
    if choice.mode not in WANDB_MODES:
        raise InputError(
            f"logger.wandb.mode={choice.mode}: choose one of {', '.join(WANDB_MODES)}"
        )
    account = os.environ.get("WANDB_API_KEY") or _has_netrc()
    if _wandb_mode(choice) == "online" and not account:
        raise InputError(
            "logger=wandb: no W&B account is set up; run `wandb login`, or use "
            "logger.wandb.mode=offline"
        )


def _wandb_mode(choice: WandbConfig) -> str:
    return os.environ.get("WANDB_MODE", choice.mode)


def build_loggers(config: Config, directory: RunDirectory) -> list[Logger]:
    """The chosen loggers, started."""
    makers = {WandbConfig: _wandb, TensorboardConfig: _tensorboard}
    return [makers[type(choice)](choice, config, directory) for choice in config.logger.values()]


def close_loggers(loggers: Sequence[Logger], ok: bool = True) -> None:
    """End every logger, also after a failure: a W&B run that is left open swallows the next one."""
    for logger in loggers:
        logger.finalize("success" if ok else "failed")
        experiment = getattr(logger, "experiment", None)
        if hasattr(experiment, "finish"):
            experiment.finish(exit_code=0 if ok else 1)


def _wandb(choice: WandbConfig, config: Config, directory: RunDirectory) -> Logger:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    logger = WandbLogger(
        project=choice.project,
        entity=choice.entity,
        group=choice.group or f"{config.data.name}-{config.model.name}",
        job_type="train",
        tags=[config.method, config.data.name, *choice.tags],
        name=f"{config.method}-{config.data.name}-s{config.seed}",
        save_dir=directory.path,
        mode=_wandb_mode(choice),  # type: ignore[arg-type]
        # One nested key of plain values: a resumed sweep hands the top level back as arguments.
        config={"latentbench": plain(config)},
        settings=wandb.Settings(console="off", disable_git=True, disable_code=True),
    )
    logger.experiment.define_metric("*", step_metric="trainer/global_step")
    return logger


def _tensorboard(choice: TensorboardConfig, config: Config, directory: RunDirectory) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(
        save_dir=directory.path,
        name="",
        version="tensorboard",
        flush_secs=choice.flush_seconds,
    )


def _has_netrc() -> bool:
    from pathlib import Path

    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return file.is_file() and "wandb" in file.read_text(errors="ignore")
