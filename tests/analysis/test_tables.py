"""The command that makes a study's tables: golden output, and every refusal."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from latentbench.analysis.table import escape, percent
from latentbench.analysis.tables import main

GOLDEN = Path(__file__).parent / "golden"
FILES = ("table.md", "table.tex", "table.csv")


def change(folder: Path, **fields: object) -> None:
    """Replace fields of a result.json."""
    file = folder / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_tables_equal_the_golden_files(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study)]) == 0
    printed = capsys.readouterr()
    if os.environ.get("WRITE_GOLDEN"):  # how the files were made
        for name in FILES:
            shutil.copy(study / name, GOLDEN)
    assert printed.out == (GOLDEN / "table.md").read_text(encoding="utf-8") and not printed.err
    for name in FILES:
        assert (study / name).read_bytes() == (GOLDEN / name).read_bytes(), name


def test_folder_order_and_a_second_call_change_no_byte(study: Path, tmp_path: Path) -> None:
    folders = sorted(map(str, study.iterdir()), reverse=True)
    assert main([*folders, "--out", str(tmp_path / "new" / "out")]) == 0
    assert main([*folders, "--out", str(tmp_path / "new" / "out")]) == 0
    for name in FILES:
        assert (tmp_path / "new" / "out" / name).read_bytes() == (GOLDEN / name).read_bytes()


def test_chosen_k(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study), "--k", "8,2"]) == 0
    header = capsys.readouterr().out.splitlines()[2]
    assert "pass@2 " in header and "pass@8 " in header and "pass@4 " not in header


def test_a_k_outside_the_protocol_is_named(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study), "--k", "2,16"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --k: ") and "'pass@16'" in error and "pass@8" in error
    assert not (study / "table.md").exists()


@pytest.mark.parametrize(
    ("fields", "kind", "count"),
    [
        ({"status": "failed", "error": "out of memory"}, "failed", "1 failed"),
        ({"status": "running"}, "unfinished", "1 unfinished"),
        ({"status": "preempted"}, "unfinished", "1 unfinished"),
        ({"run_id": "gumbel_grpo-1"}, "duplicate", "1 duplicate"),
        ({"seed": 1}, "duplicate", "1 duplicate"),
    ],
)
def test_refused_runs_are_named_and_can_be_left_out(
    study: Path, capsys: pytest.CaptureFixture[str], fields: dict, kind: str, count: str
) -> None:
    change(study / "gumbel_grpo-s2", **fields)
    assert main([str(study)]) == 2
    error = capsys.readouterr().err
    assert f"{kind}: {study / 'gumbel_grpo-s2'}: " in error and f"--allow {kind}" in error
    assert not (study / "table.md").exists()
    assert main([str(study), "--allow", kind]) == 0
    printed = capsys.readouterr()
    assert f"Left out: {count}." in printed.out and "Made from 8 runs" in printed.out
    assert "unequal seeds" in printed.out and str(study / "gumbel_grpo-s2") in printed.err


@pytest.mark.parametrize("file", ["result.json", "items.parquet"])
def test_unreadable_runs_cannot_be_allowed(
    study: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    target = study / "gumbel_grpo-s2" / file
    target.write_text("{") if file == "result.json" else target.unlink()
    everything = "failed,unfinished,duplicate,protocol,version"
    assert main([str(study), "--allow", everything]) == 2
    assert str(target) in capsys.readouterr().err


def test_mixed_protocols_are_named_and_never_averaged(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(study / "gumbel_grpo-s2", protocol_id="p2")
    assert main([str(study)]) == 2
    error = capsys.readouterr().err
    assert "benchmark 'chain' has 2 protocols" in error
    assert f"  p2: {study / 'gumbel_grpo-s2'}\n" in error and "  p1: " in error
    assert main([str(study), "--allow", "protocol"]) == 0
    printed = capsys.readouterr().out
    assert "### chain, n = 40 (data toy, model tiny_50%, protocol p2)" in printed
    assert "do not compare across" in printed


@pytest.mark.parametrize(
    "provenance", [{"version": "0.1.0", "git_commit": "b" * 40, "git_dirty": False}, {}]
)
def test_mixed_code_versions_are_named(
    study: Path, capsys: pytest.CaptureFixture[str], provenance: dict
) -> None:
    change(study / "gumbel_grpo-s2", provenance=provenance)
    assert main([str(study)]) == 2
    error = capsys.readouterr().err
    assert "2 code versions" in error and str(study / "gumbel_grpo-s2") in error
    assert main([str(study), "--allow", "version"]) == 0
    assert "; version" in capsys.readouterr().out


def test_no_runs_and_no_folder_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert main([str(folder)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and str(folder) in error


@pytest.mark.parametrize("options", [["--k", "0"], ["--k", "a"], ["--allow", "everything"]])
def test_bad_options_name_the_value(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["x", *options])
    assert stop.value.code == 2 and repr(options[1]) in capsys.readouterr().err


def test_metrics_that_contradict_the_items_are_refused(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study / "gumbel_grpo-s2"
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    change(folder, metrics=metrics | {"chain/pass@1": 0.99})
    assert main([str(study)]) == 2
    error = capsys.readouterr().err
    assert str(folder / "items.parquet") in error and "0.990000" in error


@pytest.mark.parametrize("metrics", [{}, {"perf/seconds": 3.0}])
def test_a_run_without_greedy_accuracy_is_named(
    study: Path, capsys: pytest.CaptureFixture[str], metrics: dict
) -> None:
    change(study / "gumbel_grpo-s2", metrics=metrics)
    assert main([str(study)]) == 2
    error = capsys.readouterr().err
    assert str(study / "gumbel_grpo-s2" / "result.json") in error and "pass@1'" in error


def test_seeds_with_other_items_are_refused(
    study: Path, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study / "gumbel_grpo-s2"
    shutil.rmtree(folder)
    write_run(folder, "gumbel_grpo", 2, benchmarks=("chain",), n_items=30)
    assert main([str(study)]) == 2
    assert str(folder / "items.parquet") in capsys.readouterr().err


def test_configs_of_one_method_get_rows_of_their_own(
    tmp_path: Path, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, knob in (("gumbel", "tau"), ("shared_mask", "rate")):
        for seed in range(2):
            config = {"seed": seed, "noise": {"name": name, knob: 0.1}, "init": {"path": f"{seed}"}}
            write_run(tmp_path / f"{name}{seed}", seed=seed, run_id=f"{name}{seed}", config=config)
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for name in ("gumbel", "shared_mask"):
        assert f"| coconut (noise.name={name}) " in printed.replace("  ", " ").replace("  ", " ")
    assert printed.count("|     2 |") == 2


def test_a_row_over_several_inits_says_so(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(study / "gumbel_grpo-s2", init={"id": "init1"})
    assert main([str(study)]) == 0
    assert "gumbel_grpo starts from 2 inits: init0, init1." in capsys.readouterr().out


def test_one_seed_has_no_deviation(
    tmp_path: Path, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", stages=("final",), ks=())
    assert main([str(tmp_path)]) == 0
    table, notes = capsys.readouterr().out.split("\n- ", maxsplit=1)
    assert "±" not in table and "gain" not in table and "Made from 1 run:" in notes


def test_latex_is_escaped_and_zero_has_no_sign() -> None:
    assert escape("a_b & 50% ~ {x} \\ ^2 #1 $") == (
        r"a\_b \& 50\% \textasciitilde{} \{x\} \textbackslash{} \textasciicircum{}2 \#1 \$"
    )
    assert [percent(x, signed=True) for x in (-0.0001, 0.0001, -0.012)] == ["0.0", "0.0", "-1.2"]
