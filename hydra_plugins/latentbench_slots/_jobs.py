"""One job of a sweep as a process: its command line, its environment, its log, its end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, ListConfig, OmegaConf

from hydra_plugins.latentbench_slots._slots import Slot, SlotLauncherError

# A rank, a rendezvous address or a global seed that leaks from the parent would make the child
# believe that it is one rank of somebody else's run.
RANK_VARIABLES = frozenset(
    {
        *("RANK", "LOCAL_RANK", "GLOBAL_RANK", "NODE_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME"),
        *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
        *("MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED", "PL_SEED_WORKERS"),
    }
)
RANK_PREFIX = "TORCHELASTIC_"

# The parent's own settings, which the launcher sets anew for each job or the job has no use for.
PARENT_KEYS = (
    "hydra.mode",
    "hydra.run",
    "hydra.sweep",
    "hydra.sweeper",
    "hydra.launcher",
    "hydra/sweeper",
    "hydra/launcher",
    "hydra.job.num",
    "hydra.job.id",
)

# Hydra's closing hint would otherwise be the last line of every failed job's log.
HYDRA_HINT = "Set the environment variable HYDRA_FULL_ERROR=1"
TAIL_BYTES = 8192

# Processes a job leaves behind have nothing to save; they only hold the slot's device.
LEFTOVER_SECONDS = 5.0


@dataclass(frozen=True)
class Job:
    """One job as the sweeper asked for it, with its composed config and where it writes."""

    num: int
    overrides: list[str]
    config: DictConfig
    sweep_dir: str
    subdir: str
    log: Path

    @property
    def directory(self) -> Path:
        """Where the job writes, as Hydra's own launcher would put it."""
        return Path(os.path.abspath(os.path.join(self.sweep_dir, self.subdir)))

    @property
    def label(self) -> str:
        """`#3 method=… seed=1`, as messages name the job."""
        return " ".join([f"#{self.num}", *self.overrides])

    @property
    def objective(self) -> float | None:
        """The number a sweeper tunes: `objective` in the job's result.json, None without one."""
        path = self.directory / "result.json"
        if not path.is_file():
            return None
        value = json.loads(path.read_text(encoding="utf-8")).get("objective")
        return None if value is None else float(value)


class RunningJob:
    """A started job: a child in a process group of its own, which writes straight to its log."""

    def __init__(self, job: Job, slot: Slot, attempt: int, threads: int | None) -> None:
        self.job = job
        self.slot = slot
        self.attempt = attempt
        self.started = time.monotonic()
        command = job_command(job)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        # A retry and a second sweep into the same folder add to the log; neither erases evidence.
        with job.log.open("ab") as log:
            self._log_start = self._tee_from = log.tell()
            # Held open, so that a folder deleted under a running sweep costs no other job.
            self._log_reader = job.log.open("rb")
            self.process = subprocess.Popen(
                command,
                env=job_environment(os.environ, slot, threads),
                cwd=job.config.hydra.runtime.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        self._kill_leftovers_at: float | None = None

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self.started

    @property
    def last_log_line(self) -> str:
        """The line that most likely says why the job failed."""
        size = self._log_reader.seek(0, os.SEEK_END)
        tail = self._read_log(max(self._log_start, size - TAIL_BYTES)).decode(errors="replace")
        lines = [line.strip() for line in tail.splitlines()]
        kept = [line for line in lines if line and not line.startswith(HYDRA_HINT)]
        return kept[-1] if kept else "(no output)"

    def poll(self) -> int | None:
        """The exit code once the child and all it started are gone, None until then."""
        code = self.process.poll()
        if code is None or not self.send(0):
            return code
        if self._kill_leftovers_at is None:
            self._kill_leftovers_at = time.monotonic() + LEFTOVER_SECONDS
            self.send(signal.SIGTERM)
        if time.monotonic() < self._kill_leftovers_at:
            return None
        self.send(signal.SIGKILL)
        return code

    def send(self, signum: int) -> bool:
        """Signals the child and all it started; False when nothing of them is left."""
        try:
            os.killpg(self.process.pid, signum)
        except ProcessLookupError:
            return False
        return True

    def tee(self, out: IO[bytes]) -> None:
        """Copies to `out` what the job has logged since the last call."""
        chunk = self._read_log(self._tee_from)
        self._tee_from += len(chunk)
        out.write(chunk)
        out.flush()

    def close(self) -> None:
        """Lets go of the log."""
        self._log_reader.close()

    def _read_log(self, offset: int) -> bytes:
        self._log_reader.seek(offset)
        return self._log_reader.read()


def job_command(job: Job) -> list[str]:
    """The argument list of the child; no shell reads it, so Hydra's own quoting is the only one."""
    own = {
        "hydra.run.dir": str(job.directory),
        "hydra.sweep.dir": job.sweep_dir,
        "hydra.sweep.subdir": job.subdir,
    }
    return [
        sys.executable,
        *_program(),
        *_config_options(job.config),
        *_inherited_overrides(job.config),
        *job.overrides,
        "hydra.mode=RUN",
        f"hydra.job.num={job.num}",
        f"hydra.job.id={job.num}",
        *(f"{key}={_quoted(value)}" for key, value in own.items()),
    ]


def job_environment(environ: Mapping[str, str], slot: Slot, threads: int | None) -> dict[str, str]:
    """The parent's environment without its rank, with the slot's device and share of the cores."""
    env = {
        key: value
        for key, value in environ.items()
        if key not in RANK_VARIABLES and not key.startswith(RANK_PREFIX)
    }
    env["LATENTBENCH_SLOT"] = slot.name
    # Into a file Python buffers whole blocks, and a killed job would lose its last words.
    env["PYTHONUNBUFFERED"] = "1"
    if slot.devices is not None:
        env["CUDA_VISIBLE_DEVICES"] = slot.devices
    if threads is not None:
        env["OMP_NUM_THREADS"] = env["MKL_NUM_THREADS"] = str(threads)
    return env


def describe_exit(code: int) -> str:
    """`exit code 2`, or the signal that ended the process."""
    if code >= 0:
        return f"exit code {code}"
    return f"killed by signal {-code} ({signal.strsignal(-code)})"


def plain_list(overrides: ListConfig) -> list[str]:
    """Overrides as they were typed: iterating the config would resolve the `${…}` in them."""
    lines = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(lines, list)
    return lines


def _program() -> list[str]:
    """How this program was started: `-m module` or a script."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return ["-m", spec.name.removesuffix(".__main__")]
    if not Path(sys.argv[0]).is_file():
        raise SlotLauncherError(
            f"hydra/launcher=slots: {sys.argv[0]!r} is no script that could be started again for "
            "each job; use hydra/launcher=basic to run them in this process"
        )
    return [sys.argv[0]]


def _config_options(config: DictConfig) -> list[str]:
    """`--config-name`, `--config-path` and `--config-dir` as given to the parent."""
    args = get_args_parser().parse_args(sys.argv[1:])
    options = {
        "--config-path": args.config_path,
        "--config-name": config.hydra.job.config_name,
        "--config-dir": args.config_dir,
    }
    return [f"{option}={value}" for option, value in options.items() if value is not None]


def _inherited_overrides(config: DictConfig) -> list[str]:
    """The parent's `hydra.*` overrides that shape a job, in their order."""
    lines = plain_list(config.hydra.overrides.hydra)
    parsed = OverridesParser.create().parse_overrides(lines)
    return [
        line
        for line, override in zip(lines, parsed, strict=True)
        if not _belongs_to_parent(override.key_or_group)
    ]


def _belongs_to_parent(key: str) -> bool:
    return any(key == own or key.startswith(f"{own}.") for own in PARENT_KEYS)


def _quoted(text: str) -> str:
    return QuotedString(text=text, quote=Quote.single).with_quotes()
