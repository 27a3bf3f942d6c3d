"""A run that is cut and carried on ends exactly as one that was left alone."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from driver import QUICK, checkpoint, curves, inside, outside, start, tree

Cut = Callable[[int | None], None]

# Three epochs of RL, two optimizer steps an update, spare groups, selection on validation.
RL = (
    "limit.train_items=20",
    "sft.stages=[40,40]",
    "rl.updates=7",
    "rl.inner_updates=2",
    "rl.keep=mixed",
    "rl.over_provision=2",
    "rl.validate_every=2",
    "rl.select=validation",
    "rl.lr=1e-6",
    "trainer.checkpoint_every=1",
)
# Two stages, an optimizer reset at each epoch, dropout of the model itself, batches of two sizes.
SFT = ("method=coconut", "sft.mix=0.3", "sft.dropout=0.1", "trainer.checkpoint_every=1")
SFT_UPDATES = 8


def assert_same(first: Any, second: Any, where: str = "") -> None:
    """Equality to the bit, of tensors too."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}/{index}")
    else:
        assert first == second or (first != first and second != second), where


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("model/model.safetensors", "items.parquet"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert curves(one / "metrics.csv") == curves(other / "metrics.csv")
    first, second = checkpoint(one), checkpoint(other)
    for part in ("state_dict", "optimizer_states", "latentbench"):
        assert_same(first[part], second[part], part)
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, other)]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["run_id"] == results[1]["run_id"]


def cut_and_carry_on(run: Callable[[], Any], folder: Path, cut: Cut, *updates: int) -> None:
    for update in updates:
        cut(update)
        outcome = run()
        assert outcome.code == 143, outcome
        assert len(outcome.err.strip().splitlines()) == 1 and "carries on" in outcome.err
        result = json.loads((folder / "result.json").read_text())
        assert result["status"] == "preempted" and "SIGTERM" in result["error"]
    cut(None)
    outcome = run()
    assert outcome.code == 0, outcome


# -- determinism ----------------------------------------------------------------------------------


def test_one_seed_gives_one_run(finished: Path, tmp_path: Path, quick) -> None:
    assert quick(tmp_path / "again").code == 0
    assert_same_run(finished, tmp_path / "again")
    assert quick(tmp_path / "other", "seed=1").code == 0
    weights = "model/model.safetensors"
    assert (finished / weights).read_bytes() != (tmp_path / "other" / weights).read_bytes()
    assert curves(finished / "metrics.csv") != curves(tmp_path / "other" / "metrics.csv")


def test_one_seed_gives_one_start_model(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        where = (f"init.root={tmp_path / name}" / Path("i"), f"hydra.run.dir={tmp_path / name}/r")
        assert inside(*QUICK, *SFT, *map(str, where), f"seed={seed}").code == 0
    weights = [(tmp_path / n / "r/model/model.safetensors").read_bytes() for n in "abc"]
    assert weights[0] == weights[1] != weights[2]


# -- every cut, to the bit ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory, quick) -> Path:
    folder = tmp_path_factory.mktemp("uncut") / "run"
    assert quick(folder, *RL).code == 0
    rows = curves(folder / "metrics.csv")
    assert any(float(row["train/grad_norm"] or 0) > 0 for row in rows), "nothing was learned"
    return folder


@pytest.fixture(scope="module")
def uncut_sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uncut_sft")
    where = (f"init.root={folder / 'inits'}", f"hydra.run.dir={folder / 'run'}")
    assert inside(*QUICK, *SFT, *where).code == 0
    return folder / "run"


@pytest.mark.parametrize(
    "updates",
    [
        (1, 3),
        (7,),
        *(pytest.param((k,), marks=pytest.mark.slow) for k in range(1, 7)),
        pytest.param((1, 2, 3, 4, 5, 6, 7), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_rl_resumes_exactly(
    updates: tuple[int, ...], uncut: Path, tmp_path: Path, quick, cut: Cut
) -> None:
    cut_and_carry_on(lambda: quick(tmp_path / "run", *RL), tmp_path / "run", cut, *updates)
    assert_same_run(uncut, tmp_path / "run")


@pytest.mark.parametrize(
    "updates",
    [
        (2, 4, 5),
        (SFT_UPDATES,),
        *(pytest.param((k,), marks=pytest.mark.slow) for k in range(1, SFT_UPDATES)),
    ],
    ids=str,
)
def test_sft_resumes_exactly(
    updates: tuple[int, ...], uncut_sft: Path, tmp_path: Path, cut: Cut
) -> None:
    where = (f"init.root={tmp_path / 'inits'}", f"hydra.run.dir={tmp_path / 'run'}")
    run = lambda: inside(*QUICK, *SFT, *where)  # noqa: E731
    cut_and_carry_on(run, tmp_path / "run", cut, *updates)
    assert_same_run(uncut_sft, tmp_path / "run")


def test_rows_after_the_checkpoint_are_logged_once(
    uncut: Path, tmp_path: Path, quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed four updates after its last checkpoint, a run repeats them and their rows."""
    from latentbench.training.rl import RlModule

    original = RlModule.training_step

    def failing(self: RlModule, *rest: Any) -> None:
        original(self, *rest)
        if self.update == 6:
            raise RuntimeError("killed")

    rare = [option for option in RL if "checkpoint_every" not in option]
    with monkeypatch.context() as patch:
        patch.setattr(RlModule, "training_step", failing)
        with pytest.raises(RuntimeError):
            quick(tmp_path / "run", *rare, "trainer.checkpoint_every=2")
    assert [row["step"] for row in curves(tmp_path / "run" / "metrics.csv")][-1] == "6"
    assert quick(tmp_path / "run", *rare, "trainer.checkpoint_every=2").code == 0
    assert_same_run(uncut, tmp_path / "run")


def test_stopped_while_evaluating(
    uncut: Path, tmp_path: Path, quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last update there is nothing left to train, but the best weights to be restored."""
    from latentbench.run import training

    original = training.evaluate

    def stopping(*arguments: Any, **named: Any) -> Any:
        if "final" in arguments:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate", stopping)
        outcome = quick(tmp_path / "run", *RL)
    assert outcome.code == 130 and outcome.err.count("\n") == 1, outcome
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "preempted" and "SIGINT" in result["error"]
    assert quick(tmp_path / "run", *RL).code == 0
    assert_same_run(uncut, tmp_path / "run")


# -- the real thing -------------------------------------------------------------------------------

LONG = (*QUICK, "rl.updates=60", "rl.prompts=8", "trainer.checkpoint_every=5")


def long_run(folder: Path, inits: Path) -> tuple[str, ...]:
    return (*LONG, f"init.root={inits}", f"hydra.run.dir={folder}")


def wait_for_updates(folder: Path, count: int, program: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and program.poll() is None:
        file = folder / "metrics.csv"
        if file.is_file() and len(curves(file)) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {count} updates: {program.communicate()}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)]
)
def test_a_signal_stops_the_program(
    signum: signal.Signals, code: int, tmp_path: Path, inits: Path
) -> None:
    folder = tmp_path / "run"
    command = long_run(folder, inits)
    with start(*command, cwd=tmp_path) as program:
        wait_for_updates(folder, 3, program)
        program.send_signal(signum)
        out, err = program.communicate(timeout=60)
    assert program.returncode == code, (out, err)
    assert len(err.strip().splitlines()) == 1 and "carries on" in err
    assert json.loads((folder / "result.json").read_text())["status"] == "preempted"
    done = checkpoint(folder)["latentbench"]["update"]
    assert 3 <= done < 60 and len(curves(folder / "metrics.csv")) == done
    assert inside(*command).code == 0
    assert inside(*long_run(tmp_path / "uncut", inits)).code == 0
    assert_same_run(tmp_path / "uncut", folder)


@pytest.mark.slow
def test_kill_at_any_moment(tmp_path: Path) -> None:
    """Ten kills, from the imports to the last evaluation; saves at every update."""
    chance = random.Random(0)
    folder, inits = tmp_path / "run", tmp_path / "inits"
    often = (*long_run(folder, inits), "trainer.checkpoint_every=1")
    for _ in range(10):
        with start(*often, cwd=tmp_path, TMPDIR="/dev/shm") as program:
            file = folder / "result.json"
            if file.is_file():
                began, seconds = file.stat().st_mtime, chance.uniform(0.0, 1.5)
                while program.poll() is None and file.stat().st_mtime == began:
                    time.sleep(0.02)
            else:
                seconds = chance.uniform(5.0, 9.0)
            time.sleep(seconds)
            program.kill()
            program.communicate()
        for saved in tmp_path.rglob("last.ckpt"):
            torch.load(saved, weights_only=True)
        if file.is_file():
            json.loads(file.read_text())
    last = outside(*often, cwd=tmp_path)
    assert last.code == 0, last
    assert not [path for path in tree(tmp_path) if path.endswith(".part")]
    assert inside(*long_run(tmp_path / "uncut", tmp_path / "other inits")).code == 0
    assert_same_run(tmp_path / "uncut", folder)
