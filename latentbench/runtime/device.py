"""Which device and how many threads a run takes."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TypeVar

import torch

from latentbench.config.sections import DeviceConfig
from latentbench.errors import InputError

Devices = TypeVar("Devices", bound=DeviceConfig)


def check_device(trainer: DeviceConfig) -> None:
    """Refuse a device that is not here, or that lacks what answers are sampled with."""
    accelerator = trainer.accelerator
    if accelerator == "mps":
        raise InputError(
            "trainer.accelerator=mps: has no float64, in which answers are sampled; use trainer=cpu"
        )
    if accelerator in ("gpu", "cuda") and device_of(accelerator).type == "cpu":
        raise InputError(
            f"trainer.accelerator={accelerator}: no such device here; use trainer=cpu or "
            "trainer.accelerator=auto"
        )
    there = torch.cuda.device_count()
    if device_of(accelerator).type == "cuda" and trainer.devices > there:
        raise InputError(
            f"trainer.devices={trainer.devices}: there are {there} here; use at most that"
        )


def resolved(trainer: Devices) -> Devices:
    """With the device that `auto` and `gpu` mean here, so that Lightning takes the same."""
    return replace(trainer, accelerator=device_of(trainer.accelerator).type)


def device_of(accelerator: str) -> torch.device:
    """CUDA where it is asked for and there, else the CPU; never MPS, which has no float64."""
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("cpu")


def limit_threads(threads: int | None) -> None:
    """Small models slow down on many threads; a sweep's share of the cores is not exceeded."""
    if threads is not None:
        torch.set_num_threads(min(threads, torch.get_num_threads()))


def peak_memory_mb(device: torch.device) -> float:
    """The most memory that was held so far: the GPU's, or this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
