"""A gain has one interval, over seeds and items, wherever it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from latentbench.analysis.build import build
from latentbench.analysis.collect import collect
from latentbench.analysis.report.verdicts import _gains
from latentbench.analysis.run_table import render
from latentbench.analysis.spec import DEFAULT, read_spec
from latentbench.analysis.study import groups_of
from latentbench.analysis.table import Section


def benchmark_of(group: Section) -> str:
    return group.heading.partition(",")[0]


def test_tables_and_the_page_agree(study: Path) -> None:
    """The default table, the gain spec and the report on three seeds of two methods."""
    found = collect([study])
    plain = build(found, read_spec(DEFAULT))
    spec = build(found, read_spec("gain"))
    shown = {
        (benchmark_of(group), row.name): row.figures["gain"]
        for group in plain.groups
        for row in group.rows
        if "gain" in row.figures
    }
    assert len(shown) == 4
    for group in spec.groups:
        benchmark = benchmark_of(group)
        for row in group.rows:
            other = row.figures.get("gain")
            if other is not None:
                assert other.mean == pytest.approx(shown[benchmark, row.name].mean)
                assert other.interval == shown[benchmark, row.name].interval
    verdicts = {
        (gain.first, gain.where): gain.difference
        for group in groups_of(found)
        for gain in _gains(found, group)
    }
    for (benchmark, name), figure in shown.items():
        gain = verdicts[name, benchmark]
        assert (gain.low, gain.high) == pytest.approx(figure.interval)


def test_one_seed_has_the_interval_of_its_own_screen(
    tmp_path: Path, write_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "study" / "one", "dropout_grpo", 0)
    table = build(collect([tmp_path / "study"]), read_spec(DEFAULT))
    (figure,) = [row.figures["gain"] for group in table.groups for row in group.rows]
    assert figure.interval is not None
    low, high = (f"{100 * bound:+.1f}" for bound in figure.interval)
    render(run, None)
    assert f"{100 * figure.mean:+.1f} [{low}, {high}]" in capsys.readouterr().out
