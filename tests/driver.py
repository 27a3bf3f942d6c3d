"""Runs of the program for tests: in this process where that is enough, else as a user starts it."""

import csv
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

CHECKOUT = Path(__file__).parents[1]
PROGRAM = str(CHECKOUT / "run.py")

# A task that a tiny model half learns in a second: chains of one operator, two latent stages.
QUICK = (
    "data.lengths=[1]",
    "data.n_train=60",
    "data.n_validation=10",
    "data.n_test=12",
    "latent.max_stage=1",
    "sft.stages=[4,4]",
    "sft.warmup=2",
    "sft.batch_size=16",
    "sft.reset_optimizer=epoch",
    "rl.updates=4",
    "rl.prompts=4",
    "rl.group_size=4",
    "rl.validate_every=0",
    "rl.select=last",
    "rl.keep=all",
    "rl.over_provision=1",
    "rl.inner_updates=1",
    "answer.budget=8",
    "protocol.samples=2",
    "protocol.ks=[1,2]",
)


@dataclass(frozen=True)
class Outcome:
    """How a run ended and what it said."""

    code: int
    out: str
    err: str


def inside(*overrides: str) -> Outcome:
    """`python run.py overrides...` in this process, in the current folder."""
    from latentbench.cli import main

    return called(main, PROGRAM, *overrides)


def called(main: Callable[[], Any], program: str, *overrides: str) -> Outcome:
    """The `main` of a command line in this process, in the current folder."""
    root = logging.getLogger()
    arguments, handlers, level = sys.argv, root.handlers, root.level
    pipe = signal.getsignal(signal.SIGPIPE)  # --cfg and its like set it, as befits their process
    sys.argv = [program, *overrides]
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.argv, root.handlers = arguments, handlers
        root.setLevel(level)
        signal.signal(signal.SIGPIPE, pipe)
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
    return Outcome(code, out.getvalue(), err.getvalue())


def start(*arguments: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """The program as a process of its own, one thread, no network."""
    calm = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}
    hidden = {"HYDRA_FULL_ERROR", "WANDB_API_KEY", "HF_TOKEN"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.Popen(
        [sys.executable, PROGRAM, *arguments],
        cwd=cwd,
        env=kept | calm | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outside(*arguments: str, cwd: Path, **environment: str) -> Outcome:
    """Start the program, wait for its end."""
    with start(*arguments, cwd=cwd, **environment) as program:
        out, err = program.communicate(timeout=300)
    return Outcome(program.returncode, out, err)


def tree(folder: Path) -> dict[str, bytes | None]:
    """All below a folder by relative path: the bytes of files, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def curves(path: Path) -> list[dict[str, str]]:
    """metrics.csv without what a clock or the machine's memory decides."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in rows]


def checkpoint(folder: Path) -> dict[str, Any]:
    """`checkpoints/last.ckpt` of a directory, read without pickled code."""
    import torch

    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
