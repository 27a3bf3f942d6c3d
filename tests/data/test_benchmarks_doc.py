"""docs/benchmarks.md says of every published set what the code does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from latentbench.config import plugins
from latentbench.data._report import set_names

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def table() -> dict[str, list[str]]:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {row[0].strip("`"): row[1:] for row in cells if len(row) == 5}


def test_every_set_is_in_the_table() -> None:
    assert sorted(table()) == set_names()


@pytest.mark.parametrize("name", set_names())
def test_a_row_of_the_table_agrees_with_the_set(name: str) -> None:
    rows, grader, files, hub = table()[name]
    kind: Any = plugins.plugin("data", name)
    task = kind()
    assert grader == f"`{kind.grader}`"
    counts = {f"{edition.rows:,}" for file in kind.files for edition in file.editions}
    counts |= {f"{part.rows:,}" for part in getattr(kind, "hub_splits", ())}
    assert rows in counts
    if name == "gsm8k":
        assert task.test_hub in hub and task.aug_hub in hub
        return
    for file in task.chosen_files():
        assert file.optional or f"`{file.name}`" in files
    assert (task.hub or "no") in hub
    assert ("gated" in hub) == (name == "gpqa")
