"""Which slots this machine offers: one per visible GPU, a given number, or a given list.

GPUs are counted without importing torch: a process that has initialised CUDA holds memory on the
device for as long as it lives, and the parent of a sweep outlives all of its jobs.
"""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException

PROC_GPUS = Path("/proc/driver/nvidia/gpus")

# What `slots: auto` gives each job on a machine without a GPU when `threads` is not set.
THREADS_PER_CPU_SLOT = 4


class SlotLauncherError(CompactHydraException):
    """A wrong knob or a failed sweep. Hydra prints its one line and exits 1, without traceback."""


@dataclass(frozen=True)
class Slot:
    """A place where one job runs at a time; `devices` is its CUDA_VISIBLE_DEVICES, None on CPU."""

    name: str
    devices: str | None


def core_count() -> int:
    """CPU cores this process may use, which on a shared machine is fewer than it has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Device names as CUDA_VISIBLE_DEVICES takes them; that variable wins when it is set."""
    listed = _listed_devices()
    if listed is not None:
        return listed
    return [str(index) for index in range(_gpus_from_driver())]


def plan_slots(setting: Any, threads: int | None) -> list[Slot]:
    """The slots that `hydra.launcher.slots` asks for.

    A number above the count of GPUs shares them in turn. Raises SlotLauncherError on anything
    that is not `auto`, a positive number or a list of devices.
    """
    if setting == "auto":
        return _named(visible_gpus()) or _cpu_slots(
            core_count() // (threads or THREADS_PER_CPU_SLOT)
        )
    if isinstance(setting, int) and not isinstance(setting, bool) and setting >= 1:
        gpus = visible_gpus()
        return (
            _named([gpus[i % len(gpus)] for i in range(setting)]) if gpus else _cpu_slots(setting)
        )
    if isinstance(setting, Sequence) and not isinstance(setting, str) and setting:
        return _named(_checked_devices(setting))
    raise SlotLauncherError(
        f"hydra.launcher.slots={setting!r}: use auto, a number from 1 up, or a list of devices "
        'such as ["0","1"] or ["0,1","2,3"]'
    )


def _listed_devices() -> list[str] | None:
    """CUDA_VISIBLE_DEVICES as a list; None when it is not set. CUDA stops at the first -1."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    devices: list[str] = []
    for device in _split(value):
        if device in ("-1", "NoDevFiles"):
            break
        devices.append(device)
    return devices


def _gpus_from_driver() -> int:
    if shutil.which("nvidia-smi"):
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60
        )
        if listing.returncode == 0:
            return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
    return len(list(PROC_GPUS.iterdir())) if PROC_GPUS.is_dir() else 0


def _checked_devices(setting: Sequence[Any]) -> list[str]:
    """The list as strings, each device one that this process may use."""
    slots = [str(item).replace(" ", "") for item in setting]
    listed = _listed_devices()
    for slot in slots:
        if not slot:
            raise SlotLauncherError(
                f"hydra.launcher.slots={slots}: an empty entry names no device; for CPU jobs give "
                "a number and set CUDA_VISIBLE_DEVICES to nothing"
            )
        hidden = [d for d in _split(slot) if listed is not None and d not in listed]
        if hidden:
            raise SlotLauncherError(
                f"hydra.launcher.slots={slots}: CUDA_VISIBLE_DEVICES={','.join(listed or [])} "
                f"hides device {hidden[0]}; name devices it shows, or unset it"
            )
    return slots


def _named(devices: Sequence[str]) -> list[Slot]:
    """One slot per entry; entries that share a device get a suffix, so that names stay unique."""
    total, seen = Counter(devices), Counter[str]()
    slots: list[Slot] = []
    for device in devices:
        suffix = f".{seen[device]}" if total[device] > 1 else ""
        seen[device] += 1
        slots.append(Slot(f"cuda:{device}{suffix}", device))
    return slots


def _cpu_slots(count: int) -> list[Slot]:
    return [Slot(f"cpu:{index}", None) for index in range(max(1, count))]


def _split(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]
