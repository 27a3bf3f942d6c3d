"""metrics.csv: one row per update, stable column names, appended as the run goes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from latentbench.runtime.files import write_atomically


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
            self._rewrite([row for row in self._rows() if int(row["step"]) <= step])

    def _widen(self, new: list[str]) -> None:
        rows = self._rows() if self.columns else []
        head = [name for name in self.columns if name != "step"] + [n for n in new if n != "step"]
        self.columns = ["step", *sorted(head)]
        self._rewrite(rows)

    def _rows(self) -> list[dict[str, str]]:
        with self.path.open(newline="") as stream:
            return list(csv.DictReader(stream))

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        content = buffer.getvalue().encode()
        write_atomically(self.path, lambda stream: stream.write(content) and None)


def last_value(path: Path, name: str) -> float:
    """What the last row says; a stage that was resumed at its very end logged nothing itself."""
    with path.open(newline="") as stream:
        *_, row = csv.DictReader(stream)
    return float(row[name])
