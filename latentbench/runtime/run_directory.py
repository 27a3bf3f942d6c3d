"""The run directory: the contract between training and analysis."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from latentbench.errors import InputError, RunFailed
from latentbench.runtime.files import sweep_partial_files, write_atomically, write_json
from latentbench.runtime.signals import Preempted

log = logging.getLogger(__name__)

SCHEMA = 1
RESULT = "result.json"
ITEMS = "items.parquet"
LATENTS = "latents.parquet"
QUESTIONS = "questions.parquet"
METRICS = "metrics.csv"
LOG = "run.log"
LOCK = ".lock"
HYDRA = ".hydra"
PARTS = "evaluation"
SHOWN = 3
# What a run writes before its input has been checked to the end.
WRITTEN_FIRST = (RESULT, LOG, *(f"{HYDRA}/{n}.yaml" for n in ("config", "overrides", "hydra")))


@dataclass
class RunDirectory:
    """One run's directory; `result` is what result.json says at any moment."""

    path: Path
    result: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def claim(self, run_id: str, asked: Mapping[str, Any]) -> Iterator[RunDirectory]:
        """Hold the directory for one run; `asked` is its configuration, as far as it says what is
        computed.

        It may be new, or hold an earlier attempt at the same run, which is then carried on. Raises
        InputError where it holds another run, or files that no run wrote, or is in use right now.
        An InputError from within leaves the directory as it was. The record that claims the
        directory is the first file in it: whenever a run is stopped, the same command goes on.
        """
        self._refuse_strangers(run_id, asked)
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"hydra.run.dir={self.path}: another process is writing this run; wait for it, or "
                "choose another directory"
            ) from None
        before = self._written_first()
        sweep_partial_files(self.path)
        if not self.result:
            self.record(status="running", run_id=run_id, config=dict(asked))
        elif self.result.get("status") == "completed":
            shutil.rmtree(self.path / PARTS, ignore_errors=True)  # a kill just before the end
        try:
            yield self
        except InputError:
            self._restore(before)
            raise
        finally:
            lock.release()

    def _written_first(self) -> dict[Path, bytes | None]:
        files = [self.path / name for name in WRITTEN_FIRST]
        return {file: file.read_bytes() if file.is_file() else None for file in files}

    def _restore(self, before: Mapping[Path, bytes | None]) -> None:
        if before[self.path / RESULT] is None and self._holds_work():
            return  # without its record nobody could carry on from the checkpoints
        for file, content in before.items():
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(content)
        folder = self.path / HYDRA
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        if before[self.path / RESULT] is None:
            (self.path / LOCK).unlink(missing_ok=True)

    def _holds_work(self) -> bool:
        """Whether there is more than what is written before all input has been checked."""
        first = {Path(name).parts[0] for name in WRITTEN_FIRST}
        return any(path.name not in first | {LOCK} for path in self.path.iterdir())

    def refuse_other_inputs(self, inputs: str) -> None:
        """Raise InputError where the recorded run started from something else than `inputs`."""
        recorded = self.result.get("inputs")
        if recorded is not None and recorded != inputs:
            raise InputError(
                f"hydra.run.dir={self.path}: was made from other data, tokenizer or weights "
                f"(inputs {recorded}, now {inputs}); choose another directory, or give it back "
                "what it was made from"
            )

    def check_inputs(self, todays: Callable[[], str]) -> None:
        """Before a completed run is shown again: refuse when it was made from something else.

        Where its data or weights are out of reach today there is nothing to compare with.
        """
        if self.result.get("inputs") is None:
            return
        try:
            inputs = todays()
        except InputError as error:
            log.info("not compared with today's data, tokenizer and weights: %s", error)
            return
        self.refuse_other_inputs(inputs)

    @contextmanager
    def recording_failure(self, timing: Mapping[str, float]) -> Iterator[None]:
        """Record what goes wrong within as `failed`, or `preempted` on a signal, and raise it."""
        try:
            yield
        except BaseException as error:
            self._check_is_there(error)
            stopped = isinstance(error, Preempted | KeyboardInterrupt)
            status = "preempted" if stopped else "failed"
            reason = f"{type(error).__name__}: {error}"
            self.record(status=status, error=reason, timing=timing)
            raise

    def _check_is_there(self, error: BaseException | None = None) -> None:
        """Raise RunFailed where somebody has removed the directory that this run holds."""
        if not (self.path / LOCK).is_file():
            raise RunFailed(
                f"hydra.run.dir={self.path}: was removed while the run went on; nothing of it is "
                "left, run it again"
            ) from error

    def _refuse_strangers(self, run_id: str, asked: Mapping[str, Any]) -> None:
        if self.path.is_file():
            raise InputError(f"hydra.run.dir={self.path}: is a file; choose a directory")
        known = self.path / RESULT
        if known.is_file():
            try:
                other = json.loads(known.read_text())
                if not isinstance(other, dict) or not isinstance(other.get("run_id"), str):
                    raise ValueError("no record of a run")
            except (OSError, ValueError):
                raise InputError(
                    f"hydra.run.dir={self.path}: its {RESULT} cannot be read; choose another "
                    "directory, or move that one away"
                ) from None
            if other["run_id"] != run_id:
                raise InputError(
                    f"hydra.run.dir={self.path}: already holds another run "
                    f"({other.get('method')}, seed {other.get('seed')}, run_id "
                    f"{other.get('run_id')}): {_differences(other.get('config'), asked)}; choose "
                    "another directory"
                )
            self.result = other
        elif self.path.is_dir() and any(not _ours_at_once(p) for p in self.path.iterdir()):
            raise InputError(
                f"hydra.run.dir={self.path}: holds files but no {RESULT}; choose a directory that "
                "is empty or does not exist"
            )

    def record(self, **fields: Any) -> None:
        """Update result.json, atomically. Raises RunFailed where the directory is gone."""
        self._check_is_there()
        self.result |= {"schema": SCHEMA} | fields
        write_json(self.path / RESULT, self.result)

    def write_hydra(self, composed: DictConfig, hydra: Any, overrides: list[str]) -> None:
        """`.hydra/` as Hydra itself writes it, once the directory is known to be ours."""
        folder = self.path / HYDRA
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(composed))
        (folder / "overrides.yaml").write_text(OmegaConf.to_yaml(overrides))
        if hydra is not None:
            (folder / "hydra.yaml").write_text(OmegaConf.to_yaml(hydra))

    def digests(self, *names: str) -> dict[str, str]:
        """What `files` of result.json says of some files: the sha256 of their content."""
        found = {name: (self.path / name).read_bytes() for name in names}
        return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        self._check_is_there()
        write_atomically(self.path / name, lambda stream: frame.to_parquet(stream, index=False))


def _ours_at_once(path: Path) -> bool:
    """Whether a file can stem from a run that was killed before its record was there."""
    return path.name == LOCK or path.name.endswith(".part")


def _differences(recorded: Any, asked: Mapping[str, Any]) -> str:
    """Which keys two runs differ in, in words; what is not in `asked` is not compared."""
    there: dict[str, Any] = {}
    if isinstance(recorded, Mapping):
        named = {"choices": recorded.get("choices") or {}}
        there = dict(_leaves(hashable(recorded) | named))
    differing = [
        f"{key} is {there[key]} there and {value} here"
        for key, value in _leaves(asked)
        if key in there and there[key] != value
    ]
    if not differing:
        return "it has another version, other packages or other keys than this one"
    more = f" (and {len(differing) - SHOWN} keys more)" if len(differing) > SHOWN else ""
    return ", ".join(differing[:SHOWN]) + more


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in sorted(values.items(), key=lambda pair: str(pair[0])):
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Log to the console (already set up) and to a file of this run."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def plain(config: Any) -> dict[str, Any]:
    """A typed configuration as plain values, fit for JSON and for W&B."""
    container = OmegaConf.to_container(OmegaConf.structured(config), resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


# What may differ between two attempts at one run: where files lie (their content is compared by
# `inputs`), what is logged, which device, how much memory is taken at a time. The caps that stand
# under `limit` have been applied to the values they cap; only those on items have no other place.
# `at_cap` says whether a run goes on, and nothing of what it computes.
UNHASHED: Mapping[str, tuple[str, ...]] = {
    "init": ("path", "root", "revision"),
    "model": ("path", "tokenizer"),
    "data": ("root",),
    "sft": ("micro_batch", "at_cap"),
    "rl": ("micro_batch", "rollout_rows"),
    "protocol": ("batch_rows",),
    "limit": ("sft_updates_per_stage", "rl_updates", "samples"),
    "trainer": (
        *("accelerator", "devices", "profiler", "progress", "checkpoint_every", "threads"),
        *("deterministic", "detect_anomaly"),
    ),
    "logger": (),
}


def hashable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a plain configuration that says what a run computes."""
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if key in ("logger", "choices"):
            continue
        hidden = UNHASHED.get(key, ())
        kept[key] = (
            {k: v for k, v in value.items() if k not in hidden}
            if isinstance(value, dict)
            else value
        )
    if "eval" in kept:
        kept["eval"] = {
            name: {k: v for k, v in benchmark.items() if k != "root"}
            for name, benchmark in kept["eval"].items()
        }
    return kept
