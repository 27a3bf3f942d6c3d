"""One study from run directories: the frame, every refusal by path, sweeps, W&B, many runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from latentbench.analysis.collect import collect, main
from latentbench.analysis.metrics import split_metric
from latentbench.analysis.runs import AnalysisError, read_run
from latentbench.analysis.study import COLUMNS
from latentbench.analysis.sweep import stale_jobs, sweep_jobs
from latentbench.analysis.wandb_runs import project_runs

MULTIRUN = """hydra:
  sweeper:
    _target_: hydra._internal.core_plugins.basic_sweeper.BasicSweeper
    max_batch_size: null
    params: null
  output_subdir: null
  overrides:
    hydra:
    - hydra.mode=MULTIRUN
    task:
{task}
  job:
    name: latentbench
seed: 0
"""


def change(folder: Path, **fields: object) -> None:
    """Replace fields of a result.json."""
    file = folder / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def sweep(folder: Path, *task: str) -> None:
    """Write what Hydra leaves when a sweep starts."""
    folder.mkdir(parents=True, exist_ok=True)
    text = MULTIRUN.format(task="\n".join(f"    - {one}" for one in task))
    (folder / "multirun.yaml").write_text(text)


def overrides(folder: Path, *task: str) -> None:
    """Write what Hydra leaves in a job's folder."""
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {one}\n" for one in task))


def test_the_frame_has_one_row_per_run_and_metric(study: Path) -> None:
    found = collect([study])
    frame = found.frame
    assert tuple(frame.columns) == COLUMNS and len(found.runs) == 9
    assert len(frame) == sum(len(run.metrics) for run in found.runs)
    row = frame[
        (frame["row"] == "gumbel_grpo")
        & (frame["seed"] == 2)
        & (frame["benchmark"] == "chain_hard")
        & (frame["stage"] == "init")
        & (frame["metric"] == "pass@1")
    ]
    expected = read_run(study / "gumbel_grpo-s2").metric("init/chain_hard/pass@1")
    assert row["value"].tolist() == [expected] and row["init_id"].tolist() == ["init0"]
    assert found.refused == [] and found.footnotes == [
        "Made from 9 runs: version 0.1.0, commit aaaaaaaaaaaa."
    ]
    assert found.outcomes(found.runs[0], "chain", "final").samples == 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chain/pass@1", ("chain", "final", "pass@1")),
        ("init/chain/maj@8", ("chain", "init", "maj@8")),
        ("train/updates", ("", "final", "train/updates")),
        ("objective", ("", "final", "objective")),
    ],
)
def test_metric_names_split(name: str, expected: tuple[str, str, str]) -> None:
    assert split_metric(name) == expected


def test_the_command_writes_the_same_frame_twice(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "new" / "a.parquet", tmp_path / "new" / "b.parquet"]
    for file in files:
        assert main([str(study), "--out", str(file)]) == 0
    assert "rows from 9 runs" in capsys.readouterr().out
    assert files[0].read_bytes() == files[1].read_bytes()
    frame = pd.read_parquet(files[0])
    assert frame.attrs["footnotes"] and frame["seed"].dtype == "int64"


@pytest.mark.parametrize(
    ("fields", "kind", "stays"),
    [
        ({"status": "failed", "error": "out of memory"}, "failed", False),
        ({"status": "failed", "protocol_id": None}, "failed", False),
        ({"status": "running"}, "unfinished", False),
        ({"run_id": "gumbel_grpo-1"}, "duplicate", False),
        ({"seed": 1}, "duplicate", False),
        ({"protocol_id": "p2"}, "protocol", True),
        ({"provenance": {"version": "0.2.0"}}, "version", True),
        ({"seed": 5}, "seed", True),
    ],
)
def test_each_refusal_names_the_path_and_can_be_allowed(
    study: Path, capsys: pytest.CaptureFixture[str], fields: dict, kind: str, stays: bool
) -> None:
    target = study / "gumbel_grpo-s2"
    change(target, **fields)
    with pytest.raises(AnalysisError, match=f"--allow {kind}"):
        collect([study])
    error = capsys.readouterr().err
    assert error.startswith(f"{kind}: ") and str(target) in error
    found = collect([study], allow=[kind])
    assert len(found.runs) == (9 if stays else 8)
    assert [one.path for one in found.refused] == ([] if stays else [target])
    assert len(found.footnotes) > 1 or kind == "version"
    assert any(word in " ".join(found.footnotes) for word in (kind, "seeds"))


def test_a_missing_seed_is_named(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(study / "gumbel_grpo-s2")
    with pytest.raises(AnalysisError, match="--allow seed"):
        collect([study])
    error = capsys.readouterr().err
    assert "gumbel_grpo: no seed 2" in error and str(study / "gumbel_grpo-s1") in error
    notes = collect([study], allow=["seed"]).footnotes
    assert any("unequal seeds" in note and "gumbel_grpo 0, 1" in note for note in notes)


def test_a_run_left_out_excuses_its_own_method_alone(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(study / "gumbel_grpo-s2", status="failed")
    shutil.rmtree(study / "dropout_grpo-s0")
    with pytest.raises(AnalysisError, match="--allow seed"):
        collect([study], allow=["failed"])
    error = capsys.readouterr().err
    assert "dropout_grpo: no seed 0" in error and "gumbel_grpo: no seed" not in error
    assert len(collect([study], allow=["failed", "seed"]).runs) == 7


def test_commands_start_without_heavy_imports() -> None:
    script = (
        "import sys, analysis.collect, analysis.tables, analysis.compare, analysis.plan;"
        "heavy = {'pandas', 'scipy', 'pyarrow', 'yaml', 'hydra', 'wandb', 'torch', 'lightning',"
        " 'transformers', 'latentbench.cli', 'matplotlib'} & set(sys.modules); sys.exit(str(heavy))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


def test_unreadable_runs_cannot_be_allowed(study: Path) -> None:
    (study / "gumbel_grpo-s2" / "result.json").write_text("{")
    with pytest.raises(AnalysisError, match="unreadable"):
        collect([study], allow=["failed", "unfinished", "duplicate", "stale", "seed"])


def test_offline_wandb_folders_are_not_entered(tmp_path: Path, write_run) -> None:
    folder = write_run(tmp_path / "a")
    write_run(folder / "wandb" / "offline-run-1", seed=1)
    assert [run.path for run in collect([tmp_path]).runs] == [folder]


# -- folders that two sweeps wrote into ----------------------------------------------------------


def test_jobs_of_a_larger_sweep_before_are_stale(
    tmp_path: Path, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "sweep"
    for seed in range(5):
        overrides(write_run(root / str(seed), seed=seed), "method=coconut", f"seed={seed}")
    sweep(root, "method=coconut", "seed=0,1,2,3,4")
    assert len(collect([root]).runs) == 5
    sweep(root, "method=coconut", "seed=0,1,2")
    with pytest.raises(AnalysisError, match="--allow stale"):
        collect([root])
    error = capsys.readouterr().err
    assert f"stale: {root / '3'}: " in error and f"stale: {root / '4'}: " in error
    assert str(root / "multirun.yaml") in error and str(root / "2") not in error
    found = collect([root], allow=["stale"])
    assert len(found.runs) == 5 and any("earlier sweep" in note for note in found.footnotes)


def test_jobs_of_another_sweep_of_equal_size_are_stale(tmp_path: Path, write_run) -> None:
    for seed in range(2):
        overrides(write_run(tmp_path / str(seed), seed=seed), f"seed={seed}")
    sweep(tmp_path, "seed=2,3")
    assert set(stale_jobs([tmp_path / "0", tmp_path / "1"])) == {tmp_path / "0", tmp_path / "1"}


def test_spellings_of_one_value_are_equal(tmp_path: Path) -> None:
    sweep(tmp_path, "rl.lr=3e-4,1e-3", "sft.stages=[1,2],[3, 4]", "noise.name='a,b'")
    for number, (lr, stages) in enumerate(
        [("0.0003", "[1,2]"), ("0.0003", "[3,4]"), ("0.001", "[1,2]"), ("0.001", "[3,4]")]
    ):
        (tmp_path / str(number)).mkdir()
        overrides(tmp_path / str(number), f"rl.lr={lr}", f"sft.stages={stages}", "noise.name=a,b")
    assert stale_jobs([tmp_path / str(number) for number in range(4)]) == {}


def test_functions_of_hydra_are_expanded_by_hydra(tmp_path: Path) -> None:
    sweep(tmp_path, "seed=range(0,3)", "a=choice(x,y)")
    jobs = sweep_jobs(tmp_path / "multirun.yaml")
    assert jobs is not None and len(jobs) == 6 and jobs[1] == ("seed=0", "a=y")


@pytest.mark.parametrize("other", ["optuna.Sweeper", "nothing"])
def test_sweeps_of_other_sweepers_are_taken_as_they_are(tmp_path: Path, other: str) -> None:
    sweep(tmp_path, "seed=0,1")
    file = tmp_path / "multirun.yaml"
    file.write_text(file.read_text().replace("BasicSweeper", other))
    (tmp_path / "7").mkdir()
    assert stale_jobs([tmp_path / "7"]) == {}


# -- W&B -----------------------------------------------------------------------------------------


def logged(number: int, state: str = "finished", **config: object) -> SimpleNamespace:
    """A run as wandb's public API shows it."""
    values = {
        "method": "coconut",
        "data": {"name": "toy"},
        "model": {"name": "tiny"},
        "seed": number,
    }
    record = {"run_id": f"id{number}", "protocol_id": "p", "method": "coconut", "init": "i"}
    values |= {"record": record | {"version": "0.1.0", "commit": "a" * 40}}
    summary = {"chain/pass@1": 0.5 + number / 10, "_step": 3, "note": "x", "train/loss": 1}
    return SimpleNamespace(
        id=f"r{number}", state=state, config={"latentbench": values | config}, summary=summary
    )


class FakeApi:
    """Answers with the runs it was made with."""

    def __init__(self, *runs: SimpleNamespace) -> None:
        self.found = runs

    def runs(self, project: str) -> list[SimpleNamespace]:
        """As wandb.Api.runs; one project fails."""
        if project == "me/down":
            raise ConnectionError("no route to host\nmore")
        return list(self.found)


def test_a_wandb_project_becomes_records() -> None:
    api = FakeApi(logged(1), logged(0), logged(2, state="crashed"), logged(3, seed=None))
    runs, refused = project_runs("me/toy", api)
    assert [(run.seed, run.method, run.data) for run in runs] == [
        (0, "coconut", "toy"),
        (1, "coconut", "toy"),
    ]
    assert runs[1].metrics == {"chain/pass@1": 0.6, "train/loss": 1.0}
    assert [(one.kind, one.path.name) for one in refused] == [
        ("failed", "r2"),
        ("unreadable", "r3"),
    ]


def test_a_wandb_project_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "latentbench.analysis.wandb_runs._api", lambda: FakeApi(logged(0), logged(1))
    )
    found = collect(["wandb://me/toy"])
    assert found.frame["value"].tolist() == [0.5, 1.0, 0.6, 1.0]
    with pytest.raises(AnalysisError, match="metrics alone, no items"):
        found.outcomes(found.runs[0], "chain")


def test_wandb_without_an_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnalysisError, match=r"me/down: no answer .*no route to host\)") as caught:
        project_runs("me/down", FakeApi())
    assert "\n" not in str(caught.value)
    with pytest.raises(AnalysisError, match="entity/project"):
        project_runs("toy", FakeApi())
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(AnalysisError, match="not installed"):
        project_runs("me/toy")


# -- many runs -----------------------------------------------------------------------------------


def many(root: Path, count: int) -> None:
    """Sweeps of a thousand jobs, with configs and metrics of the usual size."""
    config = {f"group{i}": {f"key{j}": j for j in range(12)} for i in range(10)}
    metrics = {f"chain{b}/{m}@{k}": 0.5 for b in (1, 2) for m in ("pass", "maj") for k in (1, 4, 8)}
    for number in range(count):
        sweep_dir, job = root / str(number // 1_000), number % 1_000
        folder = sweep_dir / str(job)
        (folder / ".hydra").mkdir(parents=True)
        name = f"m{number // 5}"
        (folder / ".hydra" / "overrides.yaml").write_text(f"- method={name}\n- seed={number % 5}\n")
        record = {
            **{"schema": 1, "status": "completed", "run_id": str(number), "protocol_id": "p"},
            **{"method": name, "data": "toy", "model": "tiny", "seed": number % 5},
            **{"config": config, "init": {"id": "i"}, "metrics": metrics, "timing": {}},
            "provenance": {"version": "0.1.0", "git_commit": "a" * 40},
        }
        (folder / "result.json").write_text(json.dumps(record))
        (folder / "items.parquet").touch()
        if job == 0:
            first = number // 5
            names = ",".join(f"m{i}" for i in range(first, first + 200))
            sweep(sweep_dir, f"method={names}", "seed=0,1,2,3,4")


def seconds_to_collect(root: Path, count: int) -> float:
    """Processor time, the kernel's included: neighbours on a shared machine do not count."""
    many(root, count)
    start = time.process_time()
    assert len(collect([root]).frame) == 12 * count
    return time.process_time() - start


def test_two_thousand_manifests_in_three_seconds(tmp_path: Path) -> None:
    assert seconds_to_collect(tmp_path, 2_000) < 3.0


@pytest.mark.slow
def test_ten_thousand_manifests_in_ten_seconds(tmp_path: Path) -> None:
    assert seconds_to_collect(tmp_path, 10_000) < 10.0
