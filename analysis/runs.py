"""Run directories as values: find them, read them, and name every one that cannot be used.

A run directory holds `result.json` (schema 1) and `items.parquet`. Nothing is dropped in silence: a
run that is not a completed, readable, single one comes back as `Refused` with its path and reason.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
RESULT, ITEMS = "result.json", "items.parquet"
# What a run leaves behind: a folder with one of them and without a record is named.
TRACES = (ITEMS, "metrics.csv", "run.log", "latents.parquet", "questions.parquet")
ITEM_COLUMNS = (
    "benchmark",
    "item",
    "stage",
    "decode",
    "sample",
    "answer_text",
    "prediction",
    "gold",
    "correct",
    "truncated",
    "latent_steps",
    "answer_tokens",
)

_TEXT_FIELDS = ("run_id", "protocol_id", "method", "data", "model")
_STATUS_KIND = {"failed": "failed", "preempted": "unfinished", "running": "unfinished"}
# Inits are shared by many runs and live beside them; the others hold no runs.
_NOT_ENTERED = {"checkpoints", "model", ".hydra", "inits"}


class AnalysisError(Exception):
    """What cannot be analysed, in one line: path or key, value, way out. The exit code is 2."""


@dataclass(frozen=True)
class Refused:
    """A run that was found and not used: failed, unfinished, unreadable, duplicate or stale."""

    path: Path
    kind: str
    reason: str


@dataclass(frozen=True)
class Run:
    """One run directory: the record in `result.json`, and the items file read on demand."""

    path: Path
    result: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        """The hash of the resolved config without paths and logging."""
        return self.result["run_id"]

    @property
    def protocol_id(self) -> str:
        """The hash of what must agree for two runs to stand in one table."""
        return self.result["protocol_id"]

    @property
    def method(self) -> str:
        """The method that the run selected."""
        return self.result["method"]

    @property
    def data(self) -> str:
        """The data set it was trained on."""
        return self.result["data"]

    @property
    def model(self) -> str:
        """The model it started from."""
        return self.result["model"]

    @property
    def seed(self) -> int:
        """The run seed."""
        return self.result["seed"]

    def _check_digest(self, name: str, content: bytes) -> None:
        """Refuse a file that is not the one this run wrote: edited, or of another run. Records of
        before there were digests have nothing to compare with."""
        recorded = (self.result.get("files") or {}).get(name)
        if recorded is not None and hashlib.sha256(content).hexdigest() != recorded:
            raise AnalysisError(
                f"{self.path / name}: is not the file that the run of {RESULT} wrote; take both "
                "from one copy, or evaluate again"
            )

    @property
    def init_seed(self) -> int:
        """The seed of the start model; 0 in records of before it stood there."""
        init = (self.result.get("config") or {}).get("init")
        seed = init.get("seed") if isinstance(init, Mapping) else None
        return seed if isinstance(seed, int) else 0

    @property
    def replicate(self) -> tuple[int, int]:
        """What tells the runs of a row apart: the seeds of the start model and of the training."""
        return (self.init_seed, self.seed)

    @property
    def replicate_name(self) -> str:
        """`seed 3`, or `seed 3 of init seed 1`."""
        return f"seed {self.seed}" + (f" of init seed {self.init_seed}" if self.init_seed else "")

    @property
    def status(self) -> str:
        """completed, failed, preempted or running."""
        return self.result["status"]

    @property
    def remarks(self) -> list[str]:
        """What the run says against itself; nothing in runs of before there were remarks."""
        return list(self.result.get("remarks") or [])

    @property
    def has_items(self) -> bool:
        """Whether it is a directory with its items; what was logged elsewhere has metrics alone."""
        return (self.path / ITEMS).is_file()

    @property
    def metrics(self) -> Mapping[str, float]:
        """The measured shares and means, `<benchmark>/<metric>` and `init/<benchmark>/<metric>`."""
        return self.result["metrics"]

    def metric(self, name: str) -> float:
        """One metric by its full name; AnalysisError where the run lacks it or it is not finite."""
        if name not in self.metrics:
            raise AnalysisError(
                f"{self.path / RESULT}: no metric {name!r}; leave it or the run out"
            )
        value = self.metrics[name]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise AnalysisError(f"{self.path / RESULT}: metric {name!r} is {value!r}, not a number")
        return float(value)

    def items(
        self,
        columns: Sequence[str] = ITEM_COLUMNS,
        decode: str | None = None,
        optional: Sequence[str] = (),
    ) -> pd.DataFrame:
        """The per-item outcomes, of one way of decoding if given, read anew at each call.

        AnalysisError where the file is missing, broken or lacks a column that is not `optional`.
        """
        import pandas as pd
        import pyarrow.parquet as pq

        path = self.path / ITEMS
        if not path.is_file():
            raise AnalysisError(f"{path}: missing; run the evaluation again")
        try:
            have = set(pq.read_schema(path).names) if optional else set()
            self._check_digest(ITEMS, path.read_bytes())
            chosen = [*columns, *(column for column in optional if column in have)]
            only = None if decode is None else [("decode", "==", decode)]
            return pd.read_parquet(path, columns=chosen, filters=only)
        except (OSError, ValueError) as error:  # pyarrow reports broken files as either
            line = str(error).strip().splitlines()[0]
            raise AnalysisError(f"{path}: cannot be read ({line}); evaluate again") from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put a file's path before a ValueError about its content: one line that names the culprit."""
    try:
        yield
    except ValueError as error:
        raise AnalysisError(f"{path}: {error}") from error


def read_run(path: Path | str) -> Run:
    """The run in a directory, whatever its status; AnalysisError names the file and the fault."""
    folder = Path(path)
    file = folder / RESULT
    if not file.is_file():
        raise AnalysisError(f"{file}: missing; {folder} is not a run directory")
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{file}: cannot be read ({error}); run again or remove it") from error
    fault = _fault(result)
    if fault:
        raise AnalysisError(f"{file}: {fault}; run again or remove it")
    return Run(folder, result)


def find_runs(paths: Sequence[Path | str]) -> tuple[list[Run], list[Refused]]:
    """The completed runs under some folders in path order, and every other run with its reason.

    Of several completed runs with one run_id the first in path order is kept. AnalysisError where a
    given path is not a folder.
    """
    runs: list[Run] = []
    refused: list[Refused] = []
    first: dict[str, Path] = {}
    for folder in _run_folders(paths):
        try:
            run = read_run(folder)
        except AnalysisError as error:
            refused.append(Refused(folder, "unreadable", str(error)))
            continue
        problem = _refusal(run, first)
        if problem:
            refused.append(problem)
        else:
            first[run.run_id] = folder
            runs.append(run)
    return runs, refused


def _refusal(run: Run, first: Mapping[str, Path]) -> Refused | None:
    """Why a readable run cannot stand in a table, if it cannot."""
    if run.status != "completed":
        error = str(run.result.get("error") or "").strip().splitlines()
        reason = f"status is {run.status}" + (f": {error[0]}" if error else "")
        return Refused(run.path, _STATUS_KIND[run.status], reason)
    if not (run.path / ITEMS).is_file():
        return Refused(run.path, "unreadable", f"{run.path / ITEMS}: missing; evaluate again")
    if run.run_id in first:
        return Refused(run.path, "duplicate", f"same run_id {run.run_id} as {first[run.run_id]}")
    return None


def _run_folders(paths: Sequence[Path | str]) -> list[Path]:
    """Folders with a result.json or other traces of a run, each once, in path order."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise AnalysisError(f"{path}: not a folder; give folders that hold runs")
        for folder, names, files in os.walk(path):
            names[:] = [name for name in names if name not in _NOT_ENTERED]
            if not {RESULT, *TRACES}.isdisjoint(files):
                names[:] = [name for name in names if name != "wandb"]  # a copy, kept offline
                found.setdefault(Path(folder).resolve(), Path(folder))
    return sorted(found.values())


def _fault(result: Any) -> str | None:
    """What is wrong with the content of a result.json, if anything."""
    if not isinstance(result, dict):
        return f"holds a {type(result).__name__}, not a record"
    if result.get("schema") != SCHEMA:
        return f"schema is {result.get('schema')!r}, this version reads {SCHEMA}"
    for name in _TEXT_FIELDS:
        # A run that stopped before its data was read has no protocol yet.
        if name == "protocol_id" and result.get("status") in _STATUS_KIND and name in result:
            continue
        if not isinstance(result.get(name), str):
            return f"{name!r} is {result.get(name)!r}, not a name"
    if result.get("status") not in ("completed", *_STATUS_KIND):
        return (
            f"'status' is {result.get('status')!r}, not one of completed, {', '.join(_STATUS_KIND)}"
        )
    if not isinstance(result.get("seed"), int) or isinstance(result["seed"], bool):
        return f"'seed' is {result.get('seed')!r}, not a whole number"
    if "\n" in result["method"]:
        return f"'method' is {result['method']!r}, not a name of one line"
    return _wrong_part(result) if result["status"] == "completed" else None


def _wrong_part(result: Mapping[str, Any]) -> str | None:
    """What of a completed run's record is not of the kind that is written there, if anything."""
    for name in ("metrics", "config", "init", "provenance", "timing"):
        if not isinstance(result.get(name), dict):
            return f"{name!r} is {_short(result.get(name))}, not a record"
    if not isinstance(result["config"].get("init", {}), dict):
        return f"'config.init' is {_short(result['config']['init'])}, not a record"
    provenance = result["provenance"]
    for name in ("version", "git_commit"):
        if not isinstance(provenance.get(name), str | None):
            return f"'provenance.{name}' is {_short(provenance[name])}, not a text"
    files, remarks = result.get("files", {}), result.get("remarks", [])
    if not isinstance(files, dict):
        return f"'files' is {_short(files)}, not a record"
    if not isinstance(remarks, list) or not all(isinstance(one, str) for one in remarks):
        return f"'remarks' is {_short(remarks)}, not a list of sentences"
    for name, value in result["metrics"].items():
        if not isinstance(value, int | float | None) or isinstance(value, bool):
            return f"metric {name!r} is {_short(value)}, not a number"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
