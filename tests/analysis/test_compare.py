"""Two runs side by side: config, paired test, items that changed sides."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from latentbench.analysis.compare import compare, config_difference, main
from latentbench.analysis.outcomes import outcomes
from latentbench.analysis.runs import AnalysisError, read_run
from latentbench.analysis.stats import mcnemar, paired_difference


@pytest.fixture
def pair(tmp_path: Path, write_run) -> tuple[Path, Path]:
    """Two methods with two benchmarks and configs that differ in three keys."""
    configs = (
        {"seed": 0, "init": {"path": "x"}, "noise": {"rate": 0.1, "name": "mask"}, "lr": 1},
        {"seed": 1, "init": {"path": "y"}, "noise": {"name": "none"}, "lr": 1},
    )
    names = (("a", "coconut", 0.0), ("b", "dropout_grpo", 0.3))
    folders = [
        write_run(
            tmp_path / name,
            method,
            seed,
            benchmarks=("chain", "hard"),
            lift=lift,
            config=configs[seed],
        )
        for seed, (name, method, lift) in enumerate(names)
    ]
    return folders[0], folders[1]


def test_config_difference_names_keys_and_both_values(pair: tuple[Path, Path]) -> None:
    a, b = map(read_run, pair)
    expected = [
        ("noise.name", "mask", "none"),
        ("noise.rate", "0.1", "absent"),
        ("seed", "0", "1"),
    ]
    assert config_difference(a, b) == expected
    assert config_difference(a, a) == []


def test_changes_are_those_of_the_items(pair: tuple[Path, Path]) -> None:
    a, b = map(read_run, pair)
    found = compare(a, b, "chain")
    first = outcomes(a.items(), "chain", "final")
    second = outcomes(b.items(), "chain", "final")
    assert first.greedy is not None and second.greedy is not None
    gain, test = (
        paired_difference(second.greedy, first.greedy),
        mcnemar(first.greedy, second.greedy),
    )
    assert (found.difference, found.low, found.high) == (gain.mean, gain.low, gain.high)
    assert (found.p, found.items) == (test.p, 40)
    assert (len(found.broken), len(found.fixed)) == (test.only_a, test.only_b)
    fixed = {uid for uid, x, y in zip(first.items, first.greedy, second.greedy) if y and not x}  # noqa: B905
    assert {change.item for change in found.fixed} == fixed
    assert all(one.prediction_b == one.gold == "7" != one.prediction_a for one in found.fixed)
    assert all(one.answer_b == "### 7" for one in found.fixed)


def test_the_command_prints_and_writes(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "compare.md"
    assert main([*map(str, pair), "--markdown", str(out), "--show", "2"]) == 0
    printed, written = capsys.readouterr().out, out.read_text()
    assert "# dropout_grpo (seed 1) against coconut (seed 0)" in printed
    assert "| noise.rate | 0.1 | absent |" in printed and "n = 40 items" in printed
    assert "## chain" in printed and "## hard" in printed and "### Fixed by B: " in printed
    assert "more: --show" in printed and "more: --show" not in written
    assert main([*map(str, pair), "--benchmark", "hard"]) == 0
    assert "## chain" not in capsys.readouterr().out
    assert main([str(pair[0]), str(pair[0])]) == 0
    printed = capsys.readouterr().out
    assert "No difference." in printed and "None." in printed and "McNemar p = 1.0000" in printed


def test_faults_are_one_line(
    pair: tuple[Path, Path], tmp_path: Path, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = pair
    others = {
        "protocol p2": write_run(tmp_path / "p", protocol_id="p2"),
        "status is failed": write_run(tmp_path / "f", status="failed"),
        "no benchmark in common": write_run(tmp_path / "n", benchmarks=("else",)),
        "other items": write_run(tmp_path / "i", n_items=30),
    }
    for message, other in others.items():
        assert main([str(a), str(other)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and message in error and str(other) in error
    assert main([str(a), str(b), "--benchmark", "gsm8k"]) == 2
    assert "'gsm8k'; it has chain, hard" in capsys.readouterr().err
    assert main([str(a), str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_answers_given_twice_are_refused(pair: tuple[Path, Path]) -> None:
    a, b = map(read_run, pair)
    items = b.items()
    pd.concat([items, items]).to_parquet(b.path / "items.parquet")
    with pytest.raises(AnalysisError, match="more than one greedy"):
        compare(a, b, "chain")


def test_text_of_answers_cannot_break_the_table(pair: tuple[Path, Path], tmp_path: Path) -> None:
    items = pd.read_parquet(pair[1] / "items.parquet")
    items["answer_text"] = "a|b\n| c"
    items.to_parquet(pair[1] / "items.parquet")
    assert main([*map(str, pair), "--markdown", str(tmp_path / "x.md")]) == 0
    rows = [line for line in (tmp_path / "x.md").read_text().splitlines() if "a\\|b" in line]
    assert rows and all(row.endswith("| a\\|b \\| c |") for row in rows)
    assert json.loads((pair[1] / "result.json").read_text())["status"] == "completed"
