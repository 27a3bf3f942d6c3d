"""Finding and reading run directories: what is refused is named, never dropped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from latentbench.analysis.runs import ITEM_COLUMNS, AnalysisError, find_runs, read_run


def test_a_completed_run_is_read(tmp_path: Path, write_run) -> None:
    run = read_run(write_run(tmp_path / "a", "coconut", 3))
    assert (run.method, run.seed, run.status, run.run_id) == (
        "coconut",
        3,
        "completed",
        "coconut-3",
    )
    assert (run.data, run.model, run.protocol_id) == ("toy", "tiny_50%", "p1")
    assert tuple(run.items().columns) == ITEM_COLUMNS
    assert set(run.items(["decode"], decode="greedy")["decode"]) == {"greedy"}


def test_each_folder_counts_once_and_model_folders_are_not_entered(
    tmp_path: Path, write_run
) -> None:
    inner = write_run(tmp_path / "b" / "deep")
    for name in ("checkpoints", "model", ".hydra", "inits"):
        write_run(tmp_path / "b" / name / "x", run_id=name)
    runs, refused = find_runs([tmp_path, tmp_path / "b", inner])
    assert [run.path for run in runs] == [inner]
    assert refused == []


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({"status": "failed", "error": "loss is nan\nTraceback"}, "failed", "failed: loss is nan"),
        ({"status": "preempted"}, "unfinished", "preempted"),
        ({"status": "running"}, "unfinished", "running"),
        ({"status": "finished"}, "unreadable", "'finished'"),
        ({"schema": 2}, "unreadable", "schema is 2"),
        ({"protocol_id": None}, "unreadable", "'protocol_id' is None"),
        ({"seed": "0"}, "unreadable", "'seed'"),
        ({"metrics": None}, "unreadable", "'metrics'"),
    ],
)
def test_refused_runs_carry_path_and_reason(
    tmp_path: Path, write_run, fields: dict, kind: str, reason: str
) -> None:
    good = write_run(tmp_path / "good")
    bad = write_run(tmp_path / "bad", **{"run_id": "other", **fields})
    runs, refused = find_runs([tmp_path])
    assert [run.path for run in runs] == [good]
    assert [(one.path, one.kind) for one in refused] == [(bad, kind)]
    assert reason in refused[0].reason and "Traceback" not in refused[0].reason


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00"])
def test_a_broken_record_is_unreadable(tmp_path: Path, content: str) -> None:
    (tmp_path / "result.json").write_text(content)
    runs, refused = find_runs([tmp_path])
    assert runs == [] and [one.kind for one in refused] == ["unreadable"]
    assert str(tmp_path / "result.json") in refused[0].reason


def test_the_first_of_two_equal_runs_is_kept(tmp_path: Path, write_run) -> None:
    second, first = write_run(tmp_path / "b"), write_run(tmp_path / "a")
    runs, refused = find_runs([tmp_path])
    assert [run.path for run in runs] == [first]
    assert [(one.path, one.kind) for one in refused] == [(second, "duplicate")]
    assert str(first) in refused[0].reason


def test_missing_and_broken_items_are_named(tmp_path: Path, write_run) -> None:
    folder = write_run(tmp_path / "a")
    run, file = read_run(folder), folder / "items.parquet"
    file.write_bytes(b"PAR1 not really")
    with pytest.raises(AnalysisError, match="cannot be read"):
        run.items()
    file.unlink()
    with pytest.raises(AnalysisError, match=r"items\.parquet: missing"):
        run.items()
    _, refused = find_runs([folder])
    assert refused[0].kind == "unreadable" and str(file) in refused[0].reason


def test_items_without_a_column_are_named(tmp_path: Path, write_run) -> None:
    run = read_run(write_run(tmp_path / "a"))
    run.items().drop(columns="correct").to_parquet(run.path / "items.parquet")
    with pytest.raises(AnalysisError, match="correct"):
        run.items()


def test_a_path_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="nowhere: not a folder"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(AnalysisError, match="not a run directory"):
        read_run(tmp_path)


@pytest.mark.parametrize("value", [None, True, "0.5", float("nan")])
def test_a_metric_must_be_a_number(tmp_path: Path, write_run, value: object) -> None:
    folder = write_run(tmp_path / "a")
    result = json.loads((folder / "result.json").read_text())
    result["metrics"]["chain/pass@1"] = value
    (folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(AnalysisError, match="'chain/pass@1' is"):
        read_run(folder).metric("chain/pass@1")


def test_analysis_imports_neither_torch_nor_the_trainer(tmp_path: Path, write_run) -> None:
    """Nor pandas and SciPy, before there is a file to read: the command line answers at once."""
    script = (
        "import sys, analysis.tables, analysis.run_table as t;"
        "slow = {'pandas', 'scipy', 'rich', 'pyarrow'} & set(sys.modules);"
        f"t.main([{str(write_run(tmp_path / 'a'))!r}]);"
        "bad = {'torch', 'lightning', 'transformers', 'latentbench.cli'} & set(sys.modules);"
        "sys.exit(str(slow | bad) if slow | bad else 0)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
