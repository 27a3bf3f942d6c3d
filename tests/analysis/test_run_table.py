"""The table at the end of a run: figures, layout, one-stage runs, bad input."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from latentbench.analysis.outcomes import outcomes
from latentbench.analysis.run_table import COLUMNS, main, render, run_table
from latentbench.analysis.runs import AnalysisError
from latentbench.analysis.stats import mcnemar, paired_difference, wilson_interval


def test_rows_and_figures(tmp_path: Path, write_run) -> None:
    folder = write_run(tmp_path / "a", benchmarks=("chain", "hard"))
    table = run_table(folder)
    assert tuple(table.columns) == COLUMNS and set(table["items"]) == {40}
    names = ["pass@1 (greedy)", "pass@1 (sampled)", "pass@2", "pass@4", "pass@8", "maj@8"]
    assert table["metric"].tolist() == names * 2
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    keys = ["pass@1", "sampled_pass@1", "pass@2", "pass@4", "pass@8", "maj@8"]
    assert table["final"].tolist()[:6] == [metrics[f"chain/{key}"] for key in keys]
    assert table["init"].tolist()[6:] == [metrics[f"init/hard/{key}"] for key in keys]
    assert table["p"].notna().tolist() == [True, False, False, False, True, True] * 2
    low, middle, high = table[["final_low", "final", "final_high"]].to_numpy().T
    assert np.all(low <= middle) and np.all(middle <= high)


def test_greedy_row_is_wilson_paired_bootstrap_and_mcnemar(tmp_path: Path, write_run) -> None:
    folder = write_run(tmp_path / "a")
    items = pd.read_parquet(folder / "items.parquet")
    final = outcomes(items, "chain", "final").greedy
    init = outcomes(items, "chain", "init").greedy
    assert final is not None and init is not None
    row = run_table(folder).iloc[0]
    assert (row["final_low"], row["final_high"]) == wilson_interval(int(final.sum()), 40)
    gain = paired_difference(final, init)
    assert (row["difference"], row["difference_low"]) == (gain.mean, gain.low)
    assert row["p"] == mcnemar(final, init).p


def test_without_metrics_k_runs_over_powers_of_two(tmp_path: Path, write_run) -> None:
    folder = write_run(tmp_path / "a", status="running", metrics={})
    assert run_table(folder)["metric"].tolist()[1:5] == [
        "pass@1 (sampled)",
        "pass@2",
        "pass@4",
        "pass@8",
    ]
    assert run_table(folder, ks=[4])["metric"].tolist() == ["pass@1 (greedy)", "pass@4", "maj@8"]


def test_a_run_without_init_has_one_column(tmp_path: Path, write_run, capsys) -> None:
    folder = write_run(tmp_path / "a", stages=("final",))
    table = run_table(folder)
    assert np.isnan(table[["init", "difference", "p"]].to_numpy(dtype=float)).all()
    assert main([str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "final" in printed and "init" not in printed and "nan" not in printed


def test_piped_output_is_plain_and_fits_100_columns(tmp_path: Path, write_run, capsys) -> None:
    folder = write_run(tmp_path / "a", benchmarks=("chain", "hard"))
    assert main([str(folder)]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 100 and "\x1b" not in printed
    greedy = [line for line in lines if line.startswith("pass@1 (greedy)")]
    assert len(greedy) == 2 and greedy[0].count("[") == 3  # intervals are no markup
    assert any(line.startswith("40 items") for line in lines)


def test_terminal_output_is_coloured(tmp_path: Path, write_run) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system="standard")
    render(write_run(tmp_path / "a"), console)
    assert "\x1b[" in out.getvalue()


def test_bad_folders_are_one_line(tmp_path: Path, write_run, capsys) -> None:
    folder = write_run(tmp_path / "a")
    items = pd.read_parquet(folder / "items.parquet")
    cases = [
        (items[items["stage"] == "other"], "no rows"),
        (items.drop(index=items.index[0]), "samples 0..n-1"),
        (items[(items["stage"] == "final") | (items["item"] > items["item"].min())], "different"),
        (items[(items["stage"] == "final") | (items["sample"] < 4)], "unequal samples"),
    ]
    for frame, message in cases:
        frame.to_parquet(folder / "items.parquet")
        assert main([str(folder)]) == 2
        error = capsys.readouterr().err
        assert (
            error.count("\n") == 1 and str(folder / "items.parquet") in error and message in error
        )
    (folder / "items.parquet").unlink()
    assert main([str(folder)]) == 2
    assert str(folder / "items.parquet") in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_recorded_k_beyond_the_samples_is_named(tmp_path: Path, write_run: Any) -> None:
    folder = write_run(tmp_path / "a")
    file = folder / "result.json"
    result = json.loads(file.read_text())
    result["metrics"]["chain/pass@64"] = 0.9
    file.write_text(json.dumps(result))
    with pytest.raises(AnalysisError, match=r"pass@64: the items have 8 samples"):
        run_table(folder)
