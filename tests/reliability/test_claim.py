"""Whose a run directory is, from its first file to its last: nothing is bricked, lost or mixed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from driver import QUICK, Outcome, inside

from latentbench.errors import InputError, RunFailed
from latentbench.runtime.checkpoints import Checkpoints
from latentbench.runtime.files import write_atomically
from latentbench.runtime.metrics_csv import MetricsCsv, read_rows
from latentbench.runtime.run_directory import RunDirectory

Runner = Callable[..., Outcome]
OWNER = {"run": "a1", "start model": "w1"}


# -- the directory ---------------------------------------------------------------------------------


def test_the_claim_is_the_first_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at any file operation of its first second, a run can be carried on."""
    import latentbench.runtime.files as files

    replaced: list[str] = []
    original = os.replace
    monkeypatch.setattr(
        files.os, "replace", lambda a, b: (replaced.append(Path(b).name), original(a, b))
    )
    with RunDirectory(tmp_path / "run").claim("id", {"seed": 0}):
        written = {path.name for path in (tmp_path / "run").iterdir()}
        assert replaced == ["result.json"] and written == {".lock", "result.json"}
        record = json.loads((tmp_path / "run/result.json").read_text())
        assert (record["status"], record["run_id"]) == ("running", "id")
    with RunDirectory(tmp_path / "run").claim("id", {"seed": 0}):
        pass


@pytest.mark.parametrize("left", [(), (".lock",), (".lock", ".result.json.ab12.part")])
def test_a_kill_before_the_claim_bricks_nothing(left: tuple[str, ...], tmp_path: Path) -> None:
    for name in left:
        (tmp_path / name).touch()
    with RunDirectory(tmp_path).claim("id", {}):
        assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))


def test_bad_input_leaves_a_new_directory_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError), RunDirectory(tmp_path / "run").claim("id", {}):
        raise InputError("no such thing")
    assert not list((tmp_path / "run").iterdir())


def test_another_run_says_which_keys_differ(tmp_path: Path) -> None:
    there = {"rl": {"updates": 40, "lr": 0.1, "prompts": 4, "kl": 0.0}, "seed": 0}
    with RunDirectory(tmp_path).claim("a", there):
        pass
    before = (tmp_path / "result.json").read_bytes()
    here = {"rl": {"updates": 50, "lr": 0.1, "prompts": 4, "kl": 0.0}, "seed": 0}
    with pytest.raises(InputError, match=r"another run .*: rl\.updates is 40 there and 50 here;"):
        RunDirectory(tmp_path).claim("b", here).__enter__()
    many = {"rl": {"updates": 50, "lr": 0.2, "prompts": 5, "kl": 0.1}, "seed": 1}
    with pytest.raises(InputError, match=r"rl\.kl is 0\.0 there and 0\.1 here, .*2 keys more"):
        RunDirectory(tmp_path).claim("b", many).__enter__()
    with pytest.raises(InputError, match="another version"):
        RunDirectory(tmp_path).claim("b", there).__enter__()
    assert (tmp_path / "result.json").read_bytes() == before


def test_the_command_line_says_which_key_differs(finished: Path, quick: Runner) -> None:
    outcome = quick(finished, "rl.updates=5")
    assert outcome.code == 2 and "rl.updates is 4 there and 5 here" in outcome.err


@pytest.mark.parametrize("content", ["[]", "", "{", "3", '{"run_id": 5}', "null", '"x"'])
def test_a_record_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(InputError, match=r"its result\.json cannot be read"):
        RunDirectory(tmp_path).claim("id", {}).__enter__()
    assert (tmp_path / "result.json").read_text() == content


def test_what_a_kill_leaves_behind_is_swept(tmp_path: Path) -> None:
    """Half-written files, and the parts of an evaluation whose rows stand in items.parquet."""
    with RunDirectory(tmp_path).claim("id", {}) as directory:
        directory.record(status="completed")
    (tmp_path / ".items.parquet.123.part").write_bytes(b"half")
    (tmp_path / "evaluation/final").mkdir(parents=True)
    with RunDirectory(tmp_path).claim("id", {}):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "result.json"}


def test_a_directory_that_is_removed_ends_the_run(tmp_path: Path) -> None:
    """Whatever is written next: no directory with the last files alone, and `completed` in it."""
    run = tmp_path / "run"
    for write in (
        lambda d: d.record(status="completed"),
        lambda d: d.write_frame("items.parquet", None),
    ):
        with (
            pytest.raises(RunFailed, match="was removed while the run went on"),
            RunDirectory(run).claim("id", {}) as directory,
            directory.recording_failure({}),
        ):
            shutil.rmtree(run)
            write(directory)
        assert not (run / "result.json").exists()


def test_files_have_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o007)
    try:
        write_atomically(tmp_path / "x", lambda stream: None)
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o660


# -- checkpoints -----------------------------------------------------------------------------------


def written(folder: Path, owner: dict[str, str] = OWNER) -> Checkpoints:
    folder.mkdir(exist_ok=True)
    content = {"latentbench": {"update": 7}, "owner": owner, "state_dict": {"w": torch.ones(99)}}
    torch.save(content, folder / "last.ckpt")
    return Checkpoints(folder, 1, OWNER)


def test_a_checkpoint_is_resumed_from_by_its_owner(tmp_path: Path) -> None:
    checkpoints = written(tmp_path)
    assert checkpoints.resume_from() == (str(tmp_path / "last.ckpt"), 7)
    for name, value in (("run", "b2"), ("start model", "w2")):
        written(tmp_path, OWNER | {name: value})
        said = rf"another training \(its {name} is {value}, here it is {OWNER[name]}\); delete it"
        with pytest.raises(InputError, match=said):
            checkpoints.resume_from()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    """Truncated, empty, a flipped bit, a foreign file, a pickle, another project's checkpoint."""
    import pickle

    checkpoints = written(tmp_path)
    whole = checkpoints.last.read_bytes()
    place = whole.rfind(torch.ones(9).numpy().tobytes())
    flipped = bytearray(whole)
    flipped[place + 2] ^= 1
    harms = [whole[:cut] for cut in (0, 1, 100, len(whole) // 2, len(whole) - 3)]
    harms += [bytes(flipped), b"not a checkpoint", pickle.dumps({"latentbench": {"update": 1}})]
    for harm in harms:
        checkpoints.last.write_bytes(harm)
        with pytest.raises(InputError, match=r"last\.ckpt: is no whole checkpoint .*delete it"):
            checkpoints.resume_from()
    for content in ({"state_dict": {}}, [1], {"latentbench": {"update": "x"}, "owner": {}}):
        torch.save(content, checkpoints.last)
        with pytest.raises(InputError, match="is no whole checkpoint"):
            checkpoints.resume_from()


def test_a_run_with_a_harmed_checkpoint_is_refused_and_keeps_it(
    tmp_path: Path, finished: Path, quick: Runner, cut
) -> None:  # type: ignore[no-untyped-def]
    cut(2)
    assert quick(tmp_path / "run", "trainer.checkpoint_every=1").code == 143
    cut(None)
    last = tmp_path / "run/checkpoints/last.ckpt"
    whole = last.read_bytes()
    last.write_bytes(whole[:-9])
    outcome = quick(tmp_path / "run", "trainer.checkpoint_every=1")
    assert outcome.code == 2 and "last.ckpt: is no whole checkpoint" in outcome.err
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "preempted"
    assert last.read_bytes() == whole[:-9]
    last.write_bytes(whole)
    assert quick(tmp_path / "run", "trainer.checkpoint_every=1").code == 0


# -- curves ----------------------------------------------------------------------------------------


def curve(path: Path, rows: int) -> str:
    path.unlink(missing_ok=True)
    logger = MetricsCsv(path)
    for step in range(1, rows + 1):
        logger.log_metrics({"train/loss": step / 2}, step)
    return path.read_text()


def test_rows_past_the_checkpoint_are_forgotten_torn_or_not(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    text = curve(path, 5)
    for cut in range(len(text) - 12, len(text) + 1):
        path.write_text(text[:cut])
        MetricsCsv(path).rewind(3)
        assert [row["step"] for row in read_rows(path)] == ["1", "2", "3"]
    MetricsCsv(path).rewind(0)
    assert not path.exists()


def test_a_torn_or_missing_row_before_the_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    lines = curve(path, 5).splitlines(keepends=True)
    harms = {
        1: [lines[0], *lines[2:]],
        2: [*lines[:2], "2,\x00\r\n", *lines[3:]],
        3: [*lines[:3], lines[3][:2]],
        4: lines[:4],
    }
    for row, harm in harms.items():
        path.write_text("".join(harm))
        with pytest.raises(InputError, match=rf"row {row}: .*torn or missing"):
            MetricsCsv(path).rewind(4)
        assert path.read_text() == "".join(harm).replace("\r\n", "\n")
    path.unlink()
    with pytest.raises(InputError, match=r"row 1: .*torn or missing"):
        MetricsCsv(path).rewind(4)


# -- sweeps in one process -------------------------------------------------------------------------


def test_a_bad_job_does_not_stop_the_others(
    tmp_path: Path, inits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = inside(
        *(*QUICK, f"init.root={inits}", "hydra/launcher=basic", "-m", "seed=0,-1,1"),
        "hydra.sweep.dir=sweep",
    )
    assert outcome.code == 2 and outcome.err.count("error: seed=-1") == 1
    status = {
        path.parent.name: json.loads(path.read_text())["status"]
        for path in (tmp_path / "sweep").glob("*/result.json")
    }
    assert status == {"0": "completed", "2": "completed"}


# -- W&B and seeds ---------------------------------------------------------------------------------


def test_the_directory_follows_the_run_of_an_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("abc123", "other"):
        monkeypatch.setenv("WANDB_RUN_ID", name)
        outcome = inside("--cfg", "hydra", "--package", "hydra.run", "--resolve")
        assert f"dir: outputs/{name}\n" in outcome.out
    monkeypatch.delenv("WANDB_RUN_ID")
    outcome = inside("--cfg", "hydra", "--package", "hydra.run", "--resolve")
    assert "dir: outputs/20" in outcome.out


def test_a_preempted_run_says_so_to_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before it is finished, and only where it was preempted."""
    from types import SimpleNamespace

    from latentbench.runtime import loggers
    from latentbench.runtime.signals import Preempted

    said: list[str] = []

    class Experiment:
        def mark_preempting(self) -> None:
            said.append("preempting")

        def finish(self, exit_code: int) -> None:
            said.append(f"finish {exit_code}")

    logger = SimpleNamespace(finalize=said.append, experiment=Experiment())
    monkeypatch.setattr(loggers, "_tensorboard", lambda *_: logger)
    config = SimpleNamespace(logger={"x": loggers.TensorboardConfig()})
    for error in (Preempted(15), RuntimeError("broken"), None):
        said.clear()
        try:
            with loggers.started_loggers(config, RunDirectory(tmp_path)):  # type: ignore[arg-type]
                if error is not None:
                    raise error
        except (Preempted, RuntimeError):
            pass
        ended = ["failed", "finish 1"] if error else ["success", "finish 0"]
        if isinstance(error, Preempted):
            ended.insert(1, "preempting")
        assert said == ended


def test_each_seed_can_have_its_own_start_model() -> None:
    from driver import composed

    configs = [composed(f"seed={seed}", "init.seed=${seed}").config for seed in (3, 4)]
    assert [config.init.seed for config in configs] == [3, 4]


def test_a_run_that_is_carried_on_keeps_its_run_in_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from driver import composed

    from latentbench.run import training

    seen: list[str | None] = []
    monkeypatch.setattr(
        training, "_story", lambda _c, _o, directory, _t: seen.append(directory.result["wandb_id"])
    )
    found = composed("method=temp_grpo")
    with RunDirectory(tmp_path).claim("id", {}) as directory:
        directory.record(wandb_id="w1")
        training.run(found.config, found.choices, directory, "id")
    assert seen == ["w1"]
