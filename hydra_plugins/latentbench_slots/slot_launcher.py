"""The slot launcher: `python run.py … -m seed=0,1,2`, each job in a fresh process, one per slot.

Hydra's own launcher runs all jobs in one process. There a CUDA context, the rank variables of a
multi-device job and its global seed leak into the next job, and every extra rank of a multi-device
job starts the whole sweep again. Here each job is the command a user would type, with
`hydra.run.dir` pointing at its folder, so a job that dies takes nobody with it.

Known differences from a job under Hydra's launcher: `hydra.mode` is RUN, and a `${now:…}` inside
the job's own config gives the time of that job instead of the time of the sweep.
"""

# No `from __future__ import annotations` here: Hydra executes a plug-in before it enters
# sys.modules, where dataclasses would have to look the quoted annotations up.
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import (
    JobReturn,
    JobStatus,
    configure_log,
    setup_globals,
)
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from hydra_plugins.latentbench_slots._jobs import Job, RunningJob, describe_exit, plain_list
from hydra_plugins.latentbench_slots._slots import (
    Slot,
    SlotLauncherError,
    core_count,
    plan_slots,
)

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_INTERRUPT_SECONDS = 1.0


@dataclass
class SlotLauncherConf:
    """The knobs under `hydra.launcher`."""

    _target_: str = "hydra_plugins.latentbench_slots.slot_launcher.SlotLauncher"
    # auto: one per visible GPU, or by cores without one; a number; or a list such as ["0,1","2,3"].
    slots: Any = "auto"
    # OMP_NUM_THREADS and MKL_NUM_THREADS of each job; null: an equal share of the cores.
    threads: int | None = None
    # Least time between two starts, for jobs that would all fill the same cache at once.
    stagger_seconds: float = 0.0
    # How often a job that failed is started again, in the same folder.
    retries: int = 0
    # How often the launcher looks at its jobs.
    poll_seconds: float = 0.2
    # How long an interrupted job may take to save before it is killed.
    grace_seconds: float = 30.0


ConfigStore.instance().store(
    group="hydra/launcher", name="slots", node=SlotLauncherConf, provider="latentbench"
)


@dataclass(frozen=True)
class Knobs:
    """The checked values of `SlotLauncherConf`."""

    slots: Any
    threads: int | None
    stagger_seconds: float
    retries: int
    poll_seconds: float
    grace_seconds: float

    def __post_init__(self) -> None:
        """Raises SlotLauncherError on a value below what makes sense."""
        least = {"threads": 1, "stagger_seconds": 0, "retries": 0, "grace_seconds": 0}
        for key, minimum in least.items():
            value = getattr(self, key)
            if value is not None and value < minimum:
                raise SlotLauncherError(
                    f"hydra.launcher.{key}={value} is too small: use {minimum} or more"
                )
        if self.poll_seconds <= 0:
            raise SlotLauncherError(
                f"hydra.launcher.poll_seconds={self.poll_seconds} is too small: use 0.2, or any "
                "number above 0"
            )


@dataclass(frozen=True)
class Outcome:
    """How a job ended: the exit code of its last attempt, and what its log said last."""

    job: Job
    slot: Slot
    code: int
    seconds: float
    last_line: str


class SlotLauncher(Launcher):
    """Hydra's entry point: plans the jobs, runs them, and reports to the sweeper."""

    def __init__(self, **knobs: Any) -> None:
        self._raw_knobs = knobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Checks the knobs before anything is written. Raises SlotLauncherError."""
        # Not in __init__: Hydra wraps what a constructor raises in several lines of its own.
        self.knobs = _checked_knobs(self._raw_knobs)
        self.slots = plan_slots(self.knobs.slots, self.knobs.threads)
        self.hydra_context = hydra_context
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Runs one batch of jobs and returns when all have ended.

        A failed job comes back as FAILED, so the sweeper decides what that means; Hydra's default
        one stops there, with the line that names all failed jobs. Raises SystemExit with
        128 + signal number after an interrupt, once the jobs are gone.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        jobs = [
            self._plan_job(initial_job_idx + index, list(overrides))
            for index, overrides in enumerate(job_overrides)
        ]
        _check_folders_differ(jobs)
        slots = self.slots[: len(jobs)]
        log.info("Launching %d jobs on %s", len(jobs), ", ".join(slot.name for slot in slots))
        outcomes = SlotPool(slots, self.knobs).run(jobs)
        _log_summary(outcomes)
        return _job_returns(outcomes)

    def _plan_job(self, num: int, overrides: list[str]) -> Job:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = str(num)
            config.hydra.job.num = num
        before = HydraConfig.instance().cfg
        try:
            # The folder's name may use the ${hydra:…} resolver, which reads this singleton.
            HydraConfig.instance().set_config(config)
            sweep_dir, subdir = str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir)
        finally:
            HydraConfig.instance().cfg = before
        log_file = Path(self.config.hydra.sweep.dir).absolute() / "logs" / f"{num}.log"
        return Job(num, overrides, config, sweep_dir, subdir, log_file)


@dataclass
class SlotPool:
    """Keeps each slot busy with one job at a time until none is left."""

    slots: Sequence[Slot]
    knobs: Knobs
    _running: list[RunningJob] = field(default_factory=list)
    _last_start: float = float("-inf")

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Runs all jobs and returns their outcomes in the same order.

        Nothing it started survives it, whatever happens. Raises SystemExit with
        128 + signal number after an interrupt.
        """
        waiting = deque((job, 1) for job in jobs)
        done: dict[int, Outcome] = {}
        with StopSignals() as stop:
            try:
                while (waiting or self._running) and stop.signum is None:
                    self._start_next(waiting)
                    time.sleep(self.knobs.poll_seconds)
                    self._collect(waiting, done)
            finally:
                self._stop_running(stop)
            if stop.signum is not None:
                log.info("Interrupted: %d jobs had finished, none is left running", len(done))
                raise SystemExit(128 + stop.signum)
        return [done[job.num] for job in jobs]

    def _start_next(self, waiting: deque[tuple[Job, int]]) -> None:
        busy = {running.slot.name for running in self._running}
        for slot in self.slots:
            staggered = time.monotonic() < self._last_start + self.knobs.stagger_seconds
            if slot.name in busy or not waiting or staggered:
                continue
            job, attempt = waiting.popleft()
            self._running.append(RunningJob(job, slot, attempt, self._threads()))
            self._last_start = time.monotonic()
            log.info("[slot %s] %s started%s", slot.name, job.label, _attempt(attempt))

    def _collect(self, waiting: deque[tuple[Job, int]], done: dict[int, Outcome]) -> None:
        for running in list(self._running):
            code = running.poll()
            self._show(running)
            if code is None:
                continue
            self._running.remove(running)
            outcome = _log_end(running, code)
            running.close()
            if code != 0 and running.attempt <= self.knobs.retries:
                waiting.append((running.job, running.attempt + 1))
            else:
                done[running.job.num] = outcome

    def _stop_running(self, stop: "StopSignals") -> None:
        """Asks what still runs to end, and kills it after the grace or a second signal."""
        for running in self._running:
            log.info("[slot %s] %s told to stop", running.slot.name, running.job.label)
            running.send(signal.SIGTERM)
        deadline = time.monotonic() + self.knobs.grace_seconds
        while any(running.poll() is None for running in self._running):
            if time.monotonic() > deadline or stop.hurry:
                break
            time.sleep(self.knobs.poll_seconds)
        for running in self._running:
            running.send(signal.SIGKILL)
            running.process.wait()
        for running in self._running:
            self._show(running)
            running.close()
        self._running.clear()

    def _show(self, running: RunningJob) -> None:
        # Several jobs at once would interleave, so their output stays in their logs.
        if len(self.slots) == 1:
            running.tee(sys.stdout.buffer)

    def _threads(self) -> int | None:
        """Threads for a job; None where the user's own OMP_NUM_THREADS shall stand."""
        if self.knobs.threads is None and "OMP_NUM_THREADS" in os.environ:
            return None
        return self.knobs.threads or max(1, core_count() // len(self.slots))


class StopSignals:
    """Remembers an interrupt instead of dying of it, for as long as jobs run.

    A signal that the process ignores, as under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.hurry = False
        self._first_at = float("inf")
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        for signum in STOP_SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._before[signum] = signal.signal(signum, self._remember)
        return self

    def __exit__(self, *exc: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _remember(self, signum: int, frame: object) -> None:
        now = time.monotonic()
        # `timeout` sends its signal twice in a row; only a later one is somebody losing patience.
        self.hurry = now > self._first_at + SAME_INTERRUPT_SECONDS
        self._first_at = min(self._first_at, now)
        self.signum = self.signum or signum


def _checked_knobs(raw: dict[str, Any]) -> Knobs:
    known = [knob.name for knob in fields(Knobs)]
    for key in raw:
        if key not in known:
            raise SlotLauncherError(f"hydra.launcher.{key} is no knob: use {', '.join(known)}")
    plain = OmegaConf.to_container(OmegaConf.create(raw))
    assert isinstance(plain, dict)
    return Knobs(**{str(key): value for key, value in plain.items()})


def _check_folders_differ(jobs: Sequence[Job]) -> None:
    """Two jobs in one folder would write over each other, at the same time."""
    owner: dict[Path, int] = {}
    for job in jobs:
        first = owner.setdefault(job.directory, job.num)
        if first != job.num:
            raise SlotLauncherError(
                f"hydra.sweep.subdir={job.subdir} is the folder of both job #{first} and job "
                f"#{job.num}: add ${{hydra.job.num}} or the swept key to it"
            )


def _log_end(running: RunningJob, code: int) -> Outcome:
    outcome = Outcome(running.job, running.slot, code, running.seconds, running.last_log_line)
    where, label = running.slot.name, running.job.label
    if code == 0:
        log.info("[slot %s] %s finished in %s", where, label, _duration(outcome.seconds))
    else:
        log.info(
            "[slot %s] %s FAILED with %s%s, last line of its log: %s",
            *(where, label, describe_exit(code), _attempt(running.attempt), outcome.last_line),
        )
    return outcome


def _log_summary(outcomes: Sequence[Outcome]) -> None:
    failed = sum(outcome.code != 0 for outcome in outcomes)
    log.info("%d of %d jobs finished, %d failed", len(outcomes) - failed, len(outcomes), failed)
    rows = [
        ("finished" if end.code == 0 else f"FAILED ({describe_exit(end.code)})", end)
        for end in outcomes
    ]
    width = max(len(state) for state, _ in rows)
    for state, end in rows:
        log.info(
            "  %s  %10s  %s  %s",
            *(state.ljust(width), _duration(end.seconds), end.slot.name, end.job.label),
        )


def _job_returns(outcomes: Sequence[Outcome]) -> list[JobReturn]:
    failed = [outcome for outcome in outcomes if outcome.code != 0]
    error = _sweep_error(failed, len(outcomes)) if failed else None
    return [_job_return(outcome, error) for outcome in outcomes]


def _job_return(outcome: Outcome, error: SystemExit | None) -> JobReturn:
    config = outcome.job.config
    task_config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    failed = outcome.code != 0
    kind = FailedJob if failed else JobReturn
    return kind(
        overrides=plain_list(config.hydra.overrides.task),
        cfg=task_config,
        hydra_cfg=OmegaConf.masked_copy(config, "hydra"),
        working_dir=config.hydra.runtime.cwd,
        task_name=config.hydra.job.name,
        status=JobStatus.FAILED if failed else JobStatus.COMPLETED,
        _return_value=error if failed else outcome.job.objective,
    )


class FailedJob(JobReturn):
    """A failed job that ends the program with one line: Hydra's own class prints more around it."""

    @property
    def return_value(self) -> Any:
        """Raises SystemExit with the line that names the failed jobs, for exit code 1."""
        raise self._return_value


def _sweep_error(failed: Sequence[Outcome], total: int) -> SystemExit:
    names = "; ".join(f"{end.job.label} ({describe_exit(end.code)})" for end in failed)
    logs = os.path.relpath(failed[0].job.log.parent)
    return SystemExit(f"{len(failed)} of {total} jobs failed, logs in {logs}: {names}")


def _attempt(attempt: int) -> str:
    return f" (attempt {attempt})" if attempt > 1 else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
