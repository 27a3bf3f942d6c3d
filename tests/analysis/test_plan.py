"""How many seeds and items: from options, from runs, and faults by option."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentbench.analysis.collect import collect
from latentbench.analysis.plan import estimated, main, plan
from latentbench.analysis.stats import (
    Components,
    items_needed,
    minimal_detectable_effect,
    seeds_needed,
)


def test_the_plan_is_the_formula(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--effect", "3", "--items", "1319", "--sd-items", "30", "--sd-seeds", "1"]
    assert main([*options, "--sd-residual", "40"]) == 0
    printed = capsys.readouterr().out
    parts = Components(0.3, 0.01, 0.4)
    assert f"{seeds_needed(0.03, 1319, parts)} seed" in printed
    least = 100 * minimal_detectable_effect(1319, 5, parts)
    assert f"| 5 | {items_needed(0.03, 5, parts)} | {least:.1f} |" in printed
    assert "as given" in printed


def test_an_assumption_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--effect", "2", "--items", "1319"]) == 0
    printed = capsys.readouterr().out
    assert "assumed, not measured" in printed and "no number of seeds is enough" in printed
    assert "| 3 | 8509 | 3.4 |" in printed


def test_variances_come_from_runs(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--effect", "5", "--runs", str(study)]) == 0
    printed = capsys.readouterr().out
    assert "## chain\n" in printed and "## chain_hard\n" in printed
    assert "3 pairs of rows on chain:" in printed and "with 40 items" in printed
    variances = estimated(collect([study]), "chain")
    assert "\n".join(plan(0.05, 40, variances)) in printed
    assert main(["--effect", "5", "--runs", str(study), "--benchmark", "chain"]) == 0
    assert "chain_hard" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--effect", "0", "--items", "9"], "--effect 0.0"),
        (["--effect", "2"], "--items: missing"),
        (["--effect", "2", "--items", "0"], "--items 0"),
        (["--effect", "2", "--items", "9", "--power", "1"], "--power 1.0"),
        (["--effect", "2", "--items", "9", "--discordance", "15"], "--discordance 15.0"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


def test_runs_that_say_nothing_are_named(
    tmp_path: Path, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", "coconut")
    assert main(["--effect", "2", "--runs", str(tmp_path)]) == 2
    assert "no two rows to compare on 'chain'" in capsys.readouterr().err
    write_run(tmp_path / "b", "temp_grpo")
    assert main(["--effect", "2", "--runs", str(tmp_path)]) == 2
    assert "one seed each" in capsys.readouterr().err
    assert main(["--effect", "2", "--runs", str(tmp_path), "--benchmark", "x"]) == 2
    assert "--benchmark x: the runs have chain" in capsys.readouterr().err
