"""`python -m latentbench.evaluate`: any checkpoint, the same answers, carried on after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from driver import QUICK, Outcome, called, inside, tree

from latentbench.config import plugins

RUN = (*QUICK, "method=coconut", "hydra.run.dir=run")
ASKED = ("checkpoint=run", "eval=[arithmetic]", "protocol.samples=2", "protocol.ks=[1,2]")


def evaluated(*overrides: str) -> Outcome:
    """`python -m latentbench.evaluate overrides...` in this process."""
    from latentbench.evaluate import main

    return called(main, "evaluate.py", *overrides)


# A process whose grader stops for good after some answers, so that a signal always meets it there.
STALLED = """
import itertools, time
from latentbench.reward.exact_number import ExactNumber
graded, grade = itertools.count(), ExactNumber.__call__
def stalled(*arguments):
    if next(graded) >= {answers}:
        time.sleep(3600)
    return grade(*arguments)
ExactNumber.__call__ = stalled
from latentbench.evaluate import main
main()
"""


def started(folder: Path, *overrides: str, stalls: int | None = None) -> subprocess.Popen[str]:
    """The command as a process of its own; it `stalls` after so many graded answers."""
    calm = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    what = ["-m", "latentbench.evaluate"]
    if stalls is not None:
        what = ["-c", STALLED.format(answers=stalls)]
    return subprocess.Popen(
        [sys.executable, *what, *overrides],
        cwd=folder,
        env=os.environ | calm,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_parts(folder: Path, count: int, program: subprocess.Popen[str]) -> None:
    """Until so many parts are written; the program must still be at it."""
    while len(parts_in(folder)) < count:
        assert program.poll() is None, program.communicate()
        time.sleep(0.01)


def parts_in(folder: Path) -> list[Path]:
    return list(folder.glob("evaluation/*/*.parquet"))


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
    """The exported model alone, on the hub or on disk: its own data set with its own knobs, graded
    as in its run. With the default knobs some test items would be training items."""
    shutil.copytree(here / "run" / "model", here / "exported")
    outcome = evaluated("checkpoint=exported", *ASKED[1:], "hydra.run.dir=alone")
    assert outcome.code == 0, outcome
    pd.testing.assert_frame_equal(rows(here / "alone"), rows(here / "run"))
    first, alone = result(here / "run"), result(here / "alone")
    for name in ("method", "data", "model", "seed", "protocol_id", "metrics", "benchmarks"):
        assert alone[name] == first[name], name
    assert "not compared" not in outcome.out
    record = json.loads((here / "exported" / "latentbench.json").read_text())
    assert record["config"]["data"] == first["config"]["data"]
    assert "root" not in record["config"]["init"]


def test_an_old_model_directory_is_not_compared(here: Path) -> None:
    """Without the knobs of its data set there is nothing to compare with, and the log says so."""
    file = here / "run" / "model" / "latentbench.json"
    record = json.loads(file.read_text())
    del record["config"]
    file.write_text(json.dumps(record))
    shutil.copytree(file.parent, here / "old")
    options = ("eval.arithmetic.options={lengths:[1],n_train:60,n_validation:10,n_test:12}",)
    outcome = evaluated("checkpoint=old", *ASKED[1:], *options, "hydra.run.dir=alone")
    assert outcome.code == 0, outcome
    assert outcome.out.count("not compared with its training questions") == 1
    assert rows(here / "alone")["item"].tolist() == rows(here / "run")["item"].tolist()


def test_the_parts_of_a_method_may_be_presets(here: Path) -> None:
    """LEPO's carrier is one: an option without a plug-in file of its name."""
    run = (*QUICK, "method=lepo", "noise=two_sided_gumbel", "rl.updates=1", "hydra.run.dir=lepo")
    outcome = inside(*run)
    assert outcome.code == 0, outcome
    for checkpoint in ("lepo", "lepo/model"):
        again = f"again/{checkpoint}"
        outcome = evaluated(f"checkpoint={checkpoint}", *ASKED[1:], f"hydra.run.dir={again}")
        assert outcome.code == 0, outcome
        pd.testing.assert_frame_equal(
            rows(here / again), rows(here / "lepo").query("stage=='final'").reset_index(drop=True)
        )


def test_where_the_items_are_from_is_recorded(here: Path) -> None:
    """Both stories: each benchmark's data set, edition and grader, the marker beside it."""
    assert evaluated(*ASKED, "hydra.run.dir=again").code == 0
    for folder in ("run", "again"):
        ((name, found),) = result(here / folder)["benchmarks"].items()
        assert (name, found["items"], found["grader"]) == ("arithmetic", 12, "exact_number")
        assert found["grader_settings"] == {"marker": "#"}
        assert found["provenance"] == result(here / "run")["provenance"]["data"]


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
        command = [sys.executable, "-m", "latentbench.analysis.tables", *folders, "--out", "tables"]
        return subprocess.run(command, capture_output=True, text=True)

    found = tables("all/as_trained")
    assert found.returncode == 0, found.stderr
    assert any("coconut" in path.read_text() for path in (here / "tables").glob("*.md"))
    together = tables("all")
    assert together.returncode == 2 and "benchmark 'arithmetic' has 2 protocols" in together.stderr


@pytest.mark.slow
@pytest.mark.parametrize("moment", [1, 3])
def test_killed_in_the_middle(moment: int, here: Path) -> None:
    """kill -9 after some parts; the same command answers the rest, and the files are the same."""
    small = (*ASKED, "protocol.batch_rows=4", "eval.arithmetic.limit=12")
    assert evaluated(*small, "hydra.run.dir=whole").code == 0
    # a part are two items with three answers each
    with started(here, *small, "hydra.run.dir=cut", stalls=6 * moment + 1) as program:
        wait_for_parts(here / "cut", moment, program)
        program.kill()
        program.communicate()
    assert program.returncode == -signal.SIGKILL
    done = sum(len(set(pd.read_parquet(path)["item"])) for path in parts_in(here / "cut"))
    assert done == 2 * moment
    outcome = evaluated(*small, "hydra.run.dir=cut")
    assert outcome.code == 0, outcome
    for name in ("items.parquet", "questions.parquet"):
        assert (here / "cut" / name).read_bytes() == (here / "whole" / name).read_bytes()
    answered = [line for line in outcome.out.splitlines() if "accuracy" in line]
    assert int(answered[0].split("arithmetic ")[1].split("/")[0]) > done
    assert result(here / "cut")["metrics"] == result(here / "whole")["metrics"]


class Stopping:
    """Notes which items are answered, and stops the evaluation after so many parts, by SIGTERM or
    at once."""

    def __init__(
        self, patch: pytest.MonkeyPatch, after: int | None, by_signal: bool = False
    ) -> None:
        from latentbench.evaluation.benchmark import Examination

        self.left, self.answered, original = after, list[int](), Examination.answer

        def answer(examination: Any, places: Any, forced: Any) -> pd.DataFrame:
            if self.left == 0 and by_signal:
                os.kill(os.getpid(), signal.SIGTERM)
            if self.left == 0:
                raise KeyboardInterrupt
            self.left = None if self.left is None else self.left - 1
            self.answered += places
            return original(examination, places, forced)

        patch.setattr(Examination, "answer", answer)


def test_sigterm_leaves_a_record_and_the_parts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command answers the rest, and the files are the same."""
    asked = (*ASKED, "protocol.batch_rows=4")
    assert evaluated(*asked, "hydra.run.dir=whole").code == 0
    stopping = Stopping(monkeypatch, after=2, by_signal=True)
    outcome = evaluated(*asked, "hydra.run.dir=cut")
    assert outcome.code == 143 and "the same command carries on" in outcome.err
    assert result(here / "cut")["status"] == "preempted" and len(parts_in(here / "cut")) == 2
    stopping.left, before = None, set(stopping.answered)
    outcome = evaluated(*asked, "hydra.run.dir=cut")
    assert outcome.code == 0, outcome
    assert sorted(stopping.answered) == list(range(12)) and len(before) == 4
    for name in ("items.parquet", "questions.parquet"):
        assert (here / "cut" / name).read_bytes() == (here / "whole" / name).read_bytes()
    answered = [line for line in outcome.out.splitlines() if "accuracy" in line]
    assert int(answered[0].split("arithmetic ")[1].split("/")[0]) > len(before)
    assert result(here / "cut")["status"] == "completed"
    assert result(here / "cut")["metrics"] == result(here / "whole")["metrics"]


def plain_gpt2(folder: Path) -> None:
    """A GPT-2 of others, whose vocabulary knows no latent markers."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from latentbench.model.tokenizer import character_tokenizer

    tokenizer = character_tokenizer()
    eos = tokenizer.eos_token_id
    shape: Any = {"n_positions": 64, "n_embd": 32, "n_layer": 1, "n_head": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = len(tokenizer)
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=size, **shape, bos_token_id=eos, eos_token_id=eos)
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_a_plain_model_is_carried_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows for the markers are new at every load, and the same ones."""
    plain_gpt2(here / "plain")
    asked = ("checkpoint=plain", "latents=0", *ASKED[1:], "answer.budget=4", "hydra.run.dir=cut")
    asked = (*asked, "eval.arithmetic.limit=6", "protocol.batch_rows=4")
    stopping = Stopping(monkeypatch, after=2)
    with pytest.raises(KeyboardInterrupt):
        evaluated(*asked)
    assert len(stopping.answered) == 4
    stopping.left = None
    assert evaluated(*asked).code == 0
    assert sorted(stopping.answered) == list(range(6))


@pytest.mark.parametrize("launcher", ["basic", pytest.param("slots", marks=pytest.mark.slow)])
def test_accuracy_against_the_number_of_latent_steps(launcher: str, here: Path) -> None:
    sweep = ("eval.arithmetic.limit=4", "-m", "protocol.latent_steps=0,1", "hydra.sweep.dir=s")
    if launcher == "basic":
        outcome = evaluated(*ASKED, *sweep, "hydra/launcher=basic")
        assert outcome.code == 0, outcome
    else:
        program = started(here, *ASKED, *sweep)
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


@pytest.mark.slow
def test_more_processes_than_parts(here: Path) -> None:
    """One item for two processes: the second has nothing to do."""
    small = (*ASKED, "eval.arithmetic.limit=1", "trainer.accelerator=cpu")
    assert evaluated(*small, "hydra.run.dir=one").code == 0
    program = started(here, *small, "trainer.devices=2", "hydra.run.dir=two")
    out, err = program.communicate(timeout=300)
    assert program.returncode == 0, out + err
    for name in ("items.parquet", "latents.parquet"):
        assert (here / "two" / name).read_bytes() == (here / "one" / name).read_bytes()


def write_svamp(root: Path, answer: int) -> str:
    """A file of another edition, and its digest."""
    row = {"Body": "Ann has 3 eggs and finds 2.", "Question": "How many?", "Answer": answer}
    content = json.dumps(row) + "\n"
    (root / "svamp").mkdir(parents=True, exist_ok=True)
    (root / "svamp" / "test.jsonl").write_text(content)
    return hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize("program", ["run.py", "latentbench.evaluate"])
def test_a_result_of_other_files_is_not_shown_again(program: str, here: Path) -> None:
    """The same command after the benchmark's file was swapped below the same root."""
    digests = [write_svamp(here / "files", answer) for answer in (6, 5)]
    asked = (
        *("eval=[svamp]", "protocol.samples=1", "protocol.ks=[1]", "answer.budget=2"),
        *("eval.svamp.root=files", f"eval.svamp.options={{sha256:[{','.join(digests)}]}}"),
        "hydra.run.dir=again",
    )

    def answered() -> Outcome:
        if program == "run.py":
            return inside(*QUICK, "method=no_cot", *asked)
        return evaluated("checkpoint=run", *asked)

    outcome = answered()
    assert outcome.code == 0, outcome
    found = result(here / "again")["benchmarks"]["svamp"]["provenance"]["files"]
    assert found["svamp/test.jsonl"]["sha256"] == digests[1]
    assert "already completed" in answered().out
    shutil.copytree(here / "files", here / "elsewhere")
    write_svamp(here / "files", 6)
    before = tree(here / "again")
    outcome = answered()
    assert outcome.code == 2 and "was made from other data" in outcome.err, outcome
    assert tree(here / "again") == before
    shutil.rmtree(here / "files")
    outcome = answered()
    assert outcome.code == 0 and "not compared with today's data" in outcome.out


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
    "noise that no test uses": (
        "checkpoint=run eval=[arithmetic] noise=shared_mask",
        ("noise=shared_mask", "nothing reads it", "protocol.explore=answer"),
    ),
    "the temperature of training": (
        "checkpoint=run eval=[arithmetic] answer.temperature=2",
        ("answer.temperature=2", "protocol.temperature"),
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
    "no such directory, or a hub out of reach": (
        "checkpoint=some/model eval=[arithmetic]",
        ("checkpoint=some/model: no such directory here", "hub (LocalEntryNotFoundError"),
    ),
    "an empty directory": ("checkpoint=empty eval=[arithmetic]", ("empty: holds no model",)),
    "a torn configuration": (
        "checkpoint=torn eval=[arithmetic] latents=1",
        ("checkpoint=torn: its config.json cannot be read",),
    ),
    "a precision": (
        "checkpoint=run eval=[arithmetic] trainer.precision=bf16-mixed",
        ("trainer.precision", "precision"),
    ),
    "knobs of the own data set": (
        "checkpoint=run eval=[arithmetic] eval.arithmetic.options={n_test:3}",
        ("eval.arithmetic.options", "leave it out"),
    ),
    "a word for a number": (
        "checkpoint=run eval=[prontoqa_gen] eval.prontoqa_gen.options={n_test:abc}",
        ("eval.prontoqa_gen.options.n_test=abc", "Integer"),
    ),
    "a number for a list": (
        "checkpoint=run eval=[svamp] eval.svamp.options={sha256:3}",
        ("eval.svamp.options.sha256=3", "list"),
    ),
    "a word for a share": (
        "checkpoint=run eval=[dapo_math] eval.dapo_math.options.held_out=a",
        ("eval.dapo_math.options.held_out=a", "Float"),
    ),
    "a share out of range": (
        "checkpoint=run eval=[dapo_math] eval.dapo_math.options.held_out=2",
        ("eval.dapo_math.options.held_out=2",),
    ),
    "a set that is not on the hub": (
        "checkpoint=run eval=[prosqa] eval.prosqa.root=hub",
        ("eval.prosqa.root=hub: prosqa is not on the hub", "eval.prosqa.root=<directory>"),
    ),
    "a hub out of reach": (
        "checkpoint=run eval=[svamp] eval.svamp.root=hub",
        ("eval.svamp.root=hub: ChilleD/SVAMP", "cannot be had from the hub"),
    ),
    "unfinished run": ("checkpoint=unfinished eval=[arithmetic]", ("unfinished", "is failed")),
    "an evaluation": ("checkpoint=evaluated eval=[arithmetic]", ("evaluated", "without a model")),
    "data out of reach": (
        "checkpoint=run eval=[gsm8k] eval.gsm8k.root=nowhere",
        ("eval.gsm8k.root=nowhere: no such directory",),
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
    (here / "empty").mkdir()
    (here / "torn").mkdir()
    (here / "torn" / "config.json").write_text("{")
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


def test_a_benchmark_speaks_of_its_own_keys(tmp_path: Path) -> None:
    """Not of `data.<key>`, which is the training set's; and of the hub where that is a way out."""
    from latentbench.config.sections import BenchmarkConfig
    from latentbench.errors import InputError
    from latentbench.evaluation.loading import Home, load_benchmark
    from latentbench.model.layout import Layout
    from latentbench.model.tokenizer import add_markers, character_tokenizer
    from latentbench.records import Template
    from latentbench.reward.exact_number import ExactNumber

    tokenizer = character_tokenizer()
    layout = Layout(tokenizer, add_markers(tokenizer), Template(), True)
    home = Home("own", None, str(tmp_path), ExactNumber(), "exact_number")

    def refusal(**chosen: Any) -> str:
        with pytest.raises(InputError) as caught:
            load_benchmark("svamp", BenchmarkConfig(**chosen), home, "test", None, layout)
        return str(caught.value)

    assert refusal().endswith("; or take it from the hub: eval.svamp.root=hub")
    nowhere = str(tmp_path / "nowhere")
    line = refusal(root=nowhere)
    assert line.startswith(f"eval.svamp.root={nowhere}: no such directory") and "hub" not in line
    digest = write_svamp(tmp_path, 5)
    line = refusal(root=str(tmp_path))
    assert f"or accept it: eval.svamp.options.sha256=[{digest}]" in line and "data=" not in line
    chosen = BenchmarkConfig(root=str(tmp_path), options={"sha256": [digest]})
    assert len(load_benchmark("svamp", chosen, home, "test", None, layout).prompts) == 1
    line = refusal(root="hub", options={"sha256": [digest]})
    assert line.startswith("eval.svamp.options.sha256=[") and "eval.svamp.root=<directory>" in line


def test_each_benchmark_has_its_own_grader(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the run's marker, where it has one; the own data set by the configured reward."""
    from latentbench.config.sections import BenchmarkConfig
    from latentbench.model.layout import Layout
    from latentbench.model.tokenizer import add_markers, character_tokenizer
    from latentbench.records import Template
    from latentbench.reward.exact_number import ExactNumber
    from latentbench.run import preflight

    tokenizer = character_tokenizer()
    layout = Layout(tokenizer, add_markers(tokenizer), Template(), True)
    original, names = plugins.plugin, plugins.plugin_names
    monkeypatch.setattr(
        plugins, "plugin", lambda k, n: OtherSet if (k, n) == ("data", "other") else original(k, n)
    )
    monkeypatch.setattr(
        plugins, "plugin_names", lambda k: [*names(k), "other"] if k == "data" else names(k)
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
