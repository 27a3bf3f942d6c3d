"""Where a number comes from: versions, commit, machine, digests."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import latentbench

PACKAGES = ("torch", "lightning", "transformers", "datasets", "hydra-core", "omegaconf", "numpy")


def provenance(plugins: Mapping[str, str]) -> dict[str, Any]:
    """The code, the libraries and the machine of this process; no paths, no environment.

    `plugins`: name -> version of other packages whose plug-ins are in use.
    """
    return {
        "version": latentbench.__version__,
        **_git(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES} | dict(plugins),
        "platform": platform.platform(terse=True),
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def digest(value: Any, length: int = 12) -> str:
    """A short hash of plain values, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _git() -> dict[str, Any]:
    root = Path(latentbench.__file__).parent.parent
    if not (root / ".git").exists():
        return {"git_commit": None, "git_dirty": None}
    commit = _ask_git(root, "rev-parse", "HEAD")
    changes = _ask_git(root, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit or None, "git_dirty": None if changes is None else bool(changes)}


def _ask_git(root: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):  # no git here: the record says null
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
