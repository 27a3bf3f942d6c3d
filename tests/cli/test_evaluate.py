"""`python -m latentbench.evaluate`: any checkpoint, the same answers, carried on after a kill."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from driver import QUICK, Outcome, inside, tree
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

RUN = (*QUICK, "method=coconut", "hydra.run.dir=run")
ASKED = ("checkpoint=run", "eval=[arithmetic]", "protocol.samples=2", "protocol.ks=[1,2]")


def evaluated(*overrides: str) -> Outcome:
    """`python -m latentbench.evaluate overrides...` in this process."""
    from latentbench.evaluate import main

    root = logging.getLogger()
    arguments, handlers, level = sys.argv, root.handlers, root.level
    pipe = signal.getsignal(signal.SIGPIPE)
    sys.argv = ["evaluate.py", *overrides]
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.argv, root.handlers = arguments, handlers
        root.setLevel(level)
        signal.signal(signal.SIGPIPE, pipe)
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
    return Outcome(code, out.getvalue(), err.getvalue())


def started(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    calm = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "latentbench.evaluate", *overrides],
        cwd=folder,
        env=os.environ | calm,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, `run`."""
    folder = tmp_path_factory.mktemp("trained")
    before = os.getcwd()
    os.chdir(folder)
    try:
        outcome = inside(*RUN)
    finally:
        os.chdir(before)
    assert outcome.code == 0, outcome
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder with a copy of that run, as the current one."""
    shutil.copytree(trained / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def rows(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "items.parquet")


def test_a_run_is_tested_again_as_it_tested_itself(here: Path) -> None:
    """Same items, answers, grades, metrics and protocol; the names of the run in every table."""
    outcome = evaluated(*ASKED, "hydra.run.dir=again")
    assert outcome.code == 0, outcome
    pd.testing.assert_frame_equal(rows(here / "again"), rows(here / "run"))
    first, again = result(here / "run"), result(here / "again")
    for name in ("protocol_id", "method", "data", "model", "seed", "metrics", "init", "objective"):
        assert again[name] == first[name], name
    assert again["status"] == "completed" and again["stage"] == "final"
    assert again["run_id"] != first["run_id"]
    assert again["config"]["sft"] == first["config"]["sft"]
    for name in ("questions.parquet", "latents.parquet"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(here / "again" / name), pd.read_parquet(here / "run" / name)
        )
    assert "pass@1 (greedy)" in outcome.out
    assert not (here / "again" / "evaluation").exists()
    assert evaluated(*ASKED, "hydra.run.dir=again").out.count("already completed") == 1


def test_a_model_directory_says_what_it_needs(here: Path) -> None:
    """The exported model alone: on the hub or on disk, without its run."""
    shutil.copytree(here / "run" / "model", here / "exported")
    options = ("eval.arithmetic.limit=12", "answer.budget=8")
    foreign = dict(lengths=[1], n_train=60, n_validation=10, n_test=12)
    from latentbench.data.arithmetic import Arithmetic

    original = Arithmetic.load
    with pytest.MonkeyPatch.context() as patch:
        # the file knows the model's own data set by name alone; its knobs are not in it
        known = Arithmetic(**foreign)
        patch.setattr(Arithmetic, "load", lambda _self, *splits: original(known, *splits))
        outcome = evaluated("checkpoint=exported", *ASKED[1:], *options, "hydra.run.dir=alone")
    assert outcome.code == 0, outcome
    pd.testing.assert_frame_equal(rows(here / "alone"), rows(here / "run"))
    first, alone = result(here / "run"), result(here / "alone")
    for name in ("method", "data", "model", "seed", "protocol_id"):
        assert alone[name] == first[name]


def test_a_model_of_others_needs_its_latents_told(here: Path) -> None:
    shutil.copytree(here / "run" / "model", here / "foreign")
    (here / "foreign" / "latentbench.json").unlink()
    foreign = ("checkpoint=foreign", *ASKED[1:], "answer.budget=8")
    outcome = evaluated(*foreign)
    assert outcome.code == 2 and "set latents=<number>" in outcome.err
    told = (
        "latents=1",
        "template.question_end=''",
        "marker='#'",
        "names.method=mine",
        "names.seed=3",
    )
    outcome = evaluated(*foreign, *told, "hydra.run.dir=told")
    assert outcome.code == 0, outcome
    found = result(here / "told")
    assert (found["method"], found["seed"], found["model"]) == ("mine", 3, "foreign")
    assert set(rows(here / "told")["latent_steps"]) == {1}


def test_tables_are_made_of_evaluations(here: Path) -> None:
    """analysis.tables reads them, and keeps another protocol in another table."""
    for name, change in (("as_trained", ()), ("zeroed", ("protocol.intervention=zero",))):
        assert evaluated(*ASKED, *change, f"hydra.run.dir=all/{name}").code == 0

    def tables(*folders: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "analysis.tables", *folders, "--out", "tables"]
        return subprocess.run(command, capture_output=True, text=True)

    found = tables("all/as_trained")
    assert found.returncode == 0, found.stderr
    assert any("coconut" in path.read_text() for path in (here / "tables").glob("*.md"))
    together = tables("all")
    assert together.returncode == 2 and "benchmark 'arithmetic' has 2 protocols" in together.stderr


@pytest.mark.parametrize("moment", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_in_the_middle(moment: int, here: Path) -> None:
    """kill -9 after some parts; the same command answers the rest, and the files are the same."""
    small = (*ASKED, "protocol.batch_rows=4", "eval.arithmetic.limit=12")
    assert evaluated(*small, "hydra.run.dir=whole").code == 0
    # slow enough to be met in the middle: many more samples would change the answers' file
    program = started(here, *small, "hydra.run.dir=cut")
    deadline = time.monotonic() + 120
    parts = lambda: list((here / "cut").glob("evaluation/*/*.parquet"))  # noqa: E731
    while program.poll() is None and len(parts()) < moment and time.monotonic() < deadline:
        time.sleep(0.001)
    program.kill()
    program.communicate()
    done = sum(len(set(pd.read_parquet(path)["item"])) for path in parts())
    outcome = evaluated(*small, "hydra.run.dir=cut")
    assert outcome.code == 0, outcome
    for name in ("items.parquet", "questions.parquet"):
        assert (here / "cut" / name).read_bytes() == (here / "whole" / name).read_bytes()
    if program.returncode == -signal.SIGKILL and done:
        answered = [line for line in outcome.out.splitlines() if "accuracy" in line]
        first = int(answered[0].split("arithmetic ")[1].split("/")[0]) if answered else 12
        assert first > done or done == 12
    assert result(here / "cut")["metrics"] == result(here / "whole")["metrics"]


def test_sigterm_leaves_a_record_and_the_parts(here: Path) -> None:
    program = started(
        here, *ASKED, "protocol.batch_rows=2", "protocol.samples=2", "hydra.run.dir=cut"
    )
    deadline = time.monotonic() + 120
    while program.poll() is None and time.monotonic() < deadline:
        if list((here / "cut").glob("evaluation/*/*.parquet")):
            program.terminate()
            break
        time.sleep(0.001)
    _, err = program.communicate()
    if program.returncode == 143:  # else it had come to its end
        assert "the same command carries on" in err
        assert result(here / "cut")["status"] == "preempted"
    assert evaluated(*ASKED, "protocol.batch_rows=2", "hydra.run.dir=cut").code == 0
    assert result(here / "cut")["status"] == "completed"


def test_accuracy_against_the_number_of_latent_steps(here: Path) -> None:
    program = started(
        here,
        *ASKED,
        "eval.arithmetic.limit=4",
        "-m",
        "protocol.latent_steps=0,1",
        "hydra.sweep.dir=s",
    )
    _, err = program.communicate(timeout=300)
    assert program.returncode == 0, err
    found = [set(rows(here / "s" / str(job))["latent_steps"]) for job in (0, 1)]
    assert found == [{0}, {1}]
    assert [
        result(here / "s" / str(job))["metrics"]["arithmetic/latent_steps"] for job in (0, 1)
    ] == [0, 1]


@pytest.mark.slow
def test_two_processes_give_the_file_of_one(here: Path) -> None:
    """Parts dealt out to two CPU processes; nothing answered twice, every byte the same."""
    small = (
        *ASKED,
        "protocol.batch_rows=4",
        "trainer.accelerator=cpu",
        "protocol.intervention=shuffle",
    )
    assert evaluated(*small, "hydra.run.dir=one").code == 0
    program = started(here, *small, "trainer.devices=2", "hydra.run.dir=two")
    out, err = program.communicate(timeout=300)
    assert program.returncode == 0, out + err
    for name in ("items.parquet", "questions.parquet", "latents.parquet"):
        assert (here / "two" / name).read_bytes() == (here / "one" / name).read_bytes()
    assert "process 1 of 2" in out


# -- bad input ------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "no checkpoint": ("eval=[arithmetic]", ("checkpoint has no value", "hub id")),
    "no such directory": ("checkpoint=/nowhere eval=[arithmetic]", ("checkpoint=/nowhere",)),
    "no benchmark": ("checkpoint=run", ("eval=[]",)),
    "unknown benchmark": ("checkpoint=run eval=[nonsense]", ("eval/nonsense", "arithmetic")),
    "unknown key": ("checkpoint=run eval=[arithmetic] epochs=3", ("epochs",)),
    "an intervention of a benchmark": (
        "checkpoint=run eval=[arithmetic] eval.intervention=zero",
        ("protocol.intervention",),
    ),
    "unknown intervention": (
        "checkpoint=run eval=[arithmetic] protocol.intervention=halve",
        ("protocol.intervention=halve", "shuffle"),
    ),
    "latents below zero": ("checkpoint=run eval=[arithmetic] latents=-1", ("latents=-1",)),
    "no devices": ("checkpoint=run eval=[arithmetic] trainer.devices=0", ("trainer.devices=0",)),
    "unknown carrier": (
        "checkpoint=run eval=[arithmetic] carrier=pigeon",
        ("carrier/pigeon", "hidden"),
    ),
    "latent noise of none": (
        "checkpoint=run eval=[arithmetic] protocol.explore=latent",
        ("protocol.explore=latent", "noise=shared_mask"),
    ),
    "steps beyond the positions": (
        "checkpoint=run eval=[arithmetic] protocol.latent_steps=400",
        ("eval=arithmetic", "400 latents", "positions"),
    ),
    "root of a generator": (
        "checkpoint=run eval=[arithmetic] eval.arithmetic.root=data",
        ("eval.arithmetic.root=data", "reads no files"),
    ),
    "no such device": (
        "checkpoint=run eval=[arithmetic] trainer=gpu",
        ("trainer.accelerator=gpu", "trainer=cpu"),
    ),
    "a model on a hub out of reach": (
        "checkpoint=some/model eval=[arithmetic] latents=2",
        ("checkpoint=some/model", "directory"),
    ),
    "nothing known": (
        "checkpoint=some/model eval=[arithmetic]",
        ("some/model", "latents=<number>"),
    ),
    "unfinished run": ("checkpoint=unfinished eval=[arithmetic]", ("unfinished", "is failed")),
    "an evaluation": ("checkpoint=evaluated eval=[arithmetic]", ("evaluated", "without a model")),
    "data out of reach": (
        "checkpoint=run eval=[gsm8k] eval.gsm8k.root=nowhere",
        ("nowhere", "no such directory"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "no such device":
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has such a device")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "cache"))
    for folder, status in (("unfinished", "failed"), ("evaluated", "completed")):
        (here / folder).mkdir()
        (here / folder / "result.json").write_text(json.dumps({"status": status}))
    before = tree(here)
    overrides, pieces = REFUSED[name]
    outcome = evaluated(*overrides.split())
    assert outcome.code == 2, outcome
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), outcome.err
    for piece in pieces:
        assert piece in lines[0]
    assert tree(here) == before


def test_help_names_what_matters() -> None:
    outcome = evaluated("--help")
    assert outcome.code == 0
    for word in (
        "checkpoint=",
        "protocol.intervention",
        "protocol.latent_steps",
        "items.parquet",
        "143",
    ):
        assert word in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 110


# -- graders and data sets ------------------------------------------------------------------------


@dataclass(frozen=True)
class OtherSet:
    """A benchmark for evaluation alone, with a grader of its own."""

    name: str = "other"
    root: str | None = None
    items: list[str] = field(default_factory=list)
    grader: ClassVar[str] = "exact_number"

    def load(self, splits: Sequence[str] = ("test",)) -> Any:
        from latentbench.records import Item, Splits

        assert list(splits) == ["test"], "nothing but what is asked for"

        return Splits(
            [], [], [Item(f"{i}+{i}=", (), str(2 * i)) for i in range(3)], {"digest": "x"}
        )


def test_each_benchmark_has_its_own_grader(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the run's marker, where it has one; the own data set by the configured reward."""
    from latentbench import preflight, schema
    from latentbench.layout import Layout
    from latentbench.records import Template
    from latentbench.reward.exact_number import ExactNumber
    from latentbench.schema import BenchmarkConfig
    from latentbench.tokenizer import add_markers, character_tokenizer

    tokenizer = character_tokenizer()
    layout = Layout(tokenizer, add_markers(tokenizer), Template(), True)
    original, names = schema.plugin, schema.plugin_names
    monkeypatch.setattr(
        schema, "plugin", lambda k, n: OtherSet if (k, n) == ("data", "other") else original(k, n)
    )
    monkeypatch.setattr(
        schema, "plugin_names", lambda k: [*names(k), "other"] if k == "data" else names(k)
    )
    own = OtherSet().load()
    home = preflight.Home("own", own, None, ExactNumber(marker="="), "my_reward")
    chosen = BenchmarkConfig()
    mine = preflight.load_benchmark("own", chosen, home, "test", None, layout)
    assert mine.grader == ("my_reward", {"marker": "="}) and mine.reward is home.reward
    other = preflight.load_benchmark("other", chosen, home, "test", 2, layout)
    assert other.grader == ("exact_number", {"marker": "="}) and len(other.prompts) == 2


def test_a_set_for_evaluation_alone_is_no_training_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentbench.data.arithmetic import Arithmetic

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Arithmetic, "load", lambda _self: OtherSet().load())
    outcome = inside(*QUICK)
    assert outcome.code == 2
    assert "data=arithmetic" in outcome.err and "eval=[arithmetic]" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
