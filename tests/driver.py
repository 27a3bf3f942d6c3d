"""Runs of the program for tests: in this process where that is enough, else as a user starts it."""

import copy
import csv
import functools
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

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict

CHECKOUT = Path(__file__).parents[1]
PROGRAM = str(CHECKOUT / "run.py")
CONF = CHECKOUT / "conf"

# Values in a file: a key of the command line that a method never reads would be refused.
QUICK = ("--config-dir", str(CHECKOUT / "tests" / "conf"), "data=arithmetic", "experiment=quick")


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


@dataclass(frozen=True)
class Composed:
    """What the command line makes of its arguments before a run: the typed configuration, checked,
    and the option of each group."""

    config: Any
    choices: dict[str, str]


def composed(*overrides: str) -> Composed:
    """The configuration of a command line and all checks of it, as before a run; nothing else.

    Choices of options are composed once; `key=value` is put on top of that as Hydra itself does.
    Raises what the command line would say in one line.
    """
    from latentbench import cli
    from latentbench.config import sections
    from latentbench.config.reads import check_read

    arguments, search = list(overrides), []
    if arguments[:1] == ["--config-dir"]:
        _, folder, *arguments = arguments
        search = [f"hydra.searchpath=[file://{folder}]"]
    chosen = [argument for argument in arguments if _is_choice(argument)]
    values = [argument for argument in arguments if argument not in chosen]
    config = copy.deepcopy(_chosen(*search, *chosen))
    parsed = OverridesParser.create().parse_overrides(values)
    ConfigLoaderImpl._apply_overrides_to_config(parsed, config)
    HydraConfig.instance().set_config(config)  # method=... is read there
    try:
        choices = cli.choices_of(config.hydra)
        with open_dict(config):
            del config["hydra"]
        typed = sections.typed(config, choices)
        check_read(typed, choices, arguments, CONF)
    finally:
        HydraConfig.instance().cfg = None
    return Composed(typed, choices)


def _is_choice(override: str) -> bool:
    """Whether it decides which files are read; Hydra is asked about what is no `key=value`."""
    key, equals, _ = override.partition("=")
    return not equals or (CONF / key).is_dir()


@functools.cache
def _chosen(*choices: str) -> DictConfig:
    from latentbench.config import sections

    sections.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(choices), return_hydra_config=True)


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
