"""metrics.csv: one row per update, stable column names, appended as the run goes."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch.loggers.logger import Logger

from latentbench.errors import InputError
from latentbench.runtime.files import write_all, write_atomically


class MetricsCsv(Logger):
    """A Lightning logger that appends; a resumed run drops the rows after its checkpoint."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.columns: list[str] = []
        if path.is_file():
            with path.open(newline="", errors="replace") as stream:
                self.columns = next(csv.reader(stream), [])

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The configuration stands in result.json."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": step, **metrics}
        new = [name for name in row if name not in self.columns]
        if new:
            self._widen(new)
        with self.path.open("a", newline="") as stream:
            csv.DictWriter(stream, self.columns).writerow(row)

    def rewind(self, step: int) -> None:
        """Forget rows past a step: those a killed run logged after its last checkpoint.

        What such a run was writing when it was killed is the last row, and past its checkpoint.
        Raises InputError where a row that is kept is torn or missing.
        """
        rows = read_rows(self.path) if self.columns else []
        if rows and not self.path.read_bytes().endswith(b"\n"):
            del rows[-1]
        kept = list(itertools.takewhile(lambda row: _step_of(row, self.columns) <= step, rows))
        for place, row in enumerate(kept):
            if int(row["step"]) != place + 1:
                self._refuse(place, step)
        if len(kept) != step:
            self._refuse(len(kept), step)
        if kept:
            self._rewrite(kept)
        elif self.columns:
            self.path.unlink()
            self.columns = []

    def _refuse(self, place: int, step: int) -> NoReturn:
        raise InputError(
            f"{self.path}, row {place + 1}: the row of update {place + 1} is torn or missing, and "
            f"the checkpoint has done {step} updates; take the file back from a copy, or delete "
            "checkpoints/ beside it, and that training starts again from its beginning"
        )

    def _widen(self, new: list[str]) -> None:
        rows = read_rows(self.path) if self.columns else []
        head = [name for name in self.columns if name != "step"] + [n for n in new if n != "step"]
        self.columns = ["step", *sorted(head)]
        self._rewrite(rows)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        content = buffer.getvalue().encode()
        write_atomically(self.path, lambda stream: write_all(stream, content))


def _step_of(row: Mapping[str, Any], columns: Sequence[str]) -> float:
    """The number of the row's update; infinite for a torn row, which belongs to none."""
    whole = row.keys() == set(columns) and None not in row.values()
    text = str(row.get("step")) if whole else ""
    return int(text) if text.isdecimal() and _numbers(row) else math.inf


def _numbers(row: Mapping[str, Any]) -> bool:
    try:
        return all(text == "" or float(text) is not None for text in row.values())
    except ValueError:
        return False


def read_rows(path: Path) -> list[dict[str, str]]:
    """All rows as text; a metric that an update did not have is empty."""
    with path.open(newline="", errors="replace") as stream:
        return list(csv.DictReader(stream))


def last_value(path: Path, name: str) -> float:
    """What the last row says; a stage that was resumed at its very end logged nothing itself."""
    return float(read_rows(path)[-1][name])


def last_step(path: Path) -> int:
    """The number of the last update; 0 where none was logged."""
    return int(read_rows(path)[-1]["step"]) if path.is_file() else 0
