"""Loggers beside the CSV file: W&B and TensorBoard, chosen by `logger=`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from latentbench.config.plugins import CONF, native_choices
from latentbench.config.sections import Config, TensorboardConfig, WandbConfig
from latentbench.errors import InputError
from latentbench.runtime.metrics_csv import read_rows
from latentbench.runtime.run_directory import RunDirectory, plain
from latentbench.runtime.signals import Preempted

log = logging.getLogger(__name__)

WANDB_MODES = ("online", "offline", "disabled", "shared")


def check_loggers(config: Config) -> None:
    """Refuse a logger that could not start, before anything is trained."""
    for choice in config.logger.values():
        if isinstance(choice, WandbConfig):
            _check_wandb(choice)


def _check_wandb(choice: WandbConfig) -> None:
    if choice.mode not in WANDB_MODES:
        raise InputError(f"logger.wandb.mode={choice.mode}: choose one of {', '.join(WANDB_MODES)}")
    account = os.environ.get("WANDB_API_KEY") or _has_netrc()
    if _wandb_mode(choice) == "online" and not account:
        raise InputError(
            "logger=wandb: no W&B account is set up; run `wandb login`, or use "
            "logger.wandb.mode=offline"
        )


def _wandb_mode(choice: WandbConfig) -> str:
    return os.environ.get("WANDB_MODE", choice.mode)


@contextmanager
def started_loggers(config: Config, directory: RunDirectory) -> Iterator[list[Logger]]:
    """The chosen loggers, from here to the end of the block.

    They are ended also after a failure: a W&B run that is left open swallows the next one.
    """
    makers = {WandbConfig: _wandb, TensorboardConfig: _tensorboard}
    loggers: list[Logger] = []
    ended_well = preempted = False
    try:
        for choice in config.logger.values():
            loggers.append(makers[type(choice)](choice, config, directory))
        yield loggers
        ended_well = True
    except Preempted:
        preempted = True
        raise
    finally:
        for logger in loggers:
            _end(logger, ended_well, preempted)


def _end(logger: Logger, ended_well: bool, preempted: bool) -> None:
    logger.finalize("success" if ended_well else "failed")
    experiment: Any = getattr(logger, "experiment", None)
    if preempted and hasattr(experiment, "mark_preempting"):
        experiment.mark_preempting()  # W&B hands the run to the next agent
    if hasattr(experiment, "finish"):
        experiment.finish(exit_code=0 if ended_well else 1)


def replay_curves(curves: Path, loggers: Sequence[Logger]) -> None:
    """Tell loggers what metrics.csv says: SFT trains a shared model, which no run's logger sees."""
    for row in read_rows(curves) if loggers else []:
        metrics = {name: float(value) for name, value in row.items() if value and name != "step"}
        for logger in loggers:
            logger.log_metrics(metrics, step=int(row["step"]))


def _wandb(choice: WandbConfig, config: Config, directory: RunDirectory) -> Logger:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    known = directory.result.get("wandb_id")
    logger = WandbLogger(
        id=known,
        resume="allow" if known else None,
        project=choice.project,
        entity=choice.entity,
        group=choice.group or f"{config.data.name}-{config.model.name}",
        job_type="train",
        tags=[config.method, config.data.name, *_chosen(config), *choice.tags],
        name="-".join([config.method, *_chosen(config), config.data.name, f"s{config.seed}"]),
        save_dir=directory.path,
        mode=_wandb_mode(choice),  # type: ignore[arg-type]
        # One nested key of plain values: a resumed sweep hands the top level back as arguments.
        config={"latentbench": plain(config) | {"record": _record(directory)}},
        settings=wandb.Settings(console="off", disable_git=True, disable_code=True, quiet=True),
    )
    logger.experiment.define_metric("*", step_metric="trainer/global_step")
    directory.record(wandb_id=logger.experiment.id)
    if _wandb_mode(choice) == "online":
        log.info("W&B: %s", logger.experiment.url)
    return logger


def _chosen(config: Config) -> list[str]:
    """The parts that the method does not choose by itself, `noise=per_step_mask`."""
    native = native_choices(CONF, config.method)
    return [
        f"{group}={option}"
        for group, option in sorted(config.choices.items())
        if group in native and str(native[group]) != option and option != "None"
    ]


def _record(directory: RunDirectory) -> dict[str, Any]:
    """What a run is known by, for those who see W&B and not its directory."""
    result = directory.result
    provenance = result["provenance"]
    return {
        **{name: result[name] for name in ("run_id", "protocol_id", "method", "port")},
        "init": result["init"].get("id"),
        "version": provenance["version"],
        "commit": provenance["git_commit"],
    }


def _tensorboard(choice: TensorboardConfig, config: Config, directory: RunDirectory) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(
        save_dir=directory.path,
        name="",
        version="tensorboard",
        flush_secs=choice.flush_seconds,
    )


def _has_netrc() -> bool:
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return file.is_file() and "wandb" in file.read_text(errors="ignore")
