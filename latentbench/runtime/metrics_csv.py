"""metrics.csv: one row per update, stable column names, appended as the run goes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from latentbench.runtime.files import write_all, write_atomically


class MetricsCsv(Logger):
    """A Lightning logger that appends; a resumed run drops the rows after its checkpoint."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.columns: list[str] = []
        if path.is_file():
            with path.open(newline="") as stream:
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
        """Forget rows past a step: those a killed run logged after its last checkpoint."""
        if self.columns:
            self._rewrite([row for row in read_rows(self.path) if int(row["step"]) <= step])

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


def read_rows(path: Path) -> list[dict[str, str]]:
    """All rows as text; a metric that an update did not have is empty."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def last_value(path: Path, name: str) -> float:
    """What the last row says; a stage that was resumed at its very end logged nothing itself."""
    return float(read_rows(path)[-1][name])


def last_step(path: Path) -> int:
    """The number of the last update; 0 where none was logged."""
    return int(read_rows(path)[-1]["step"]) if path.is_file() else 0
