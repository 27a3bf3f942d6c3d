"""Kills at forty file operations, and every file of an interrupted run harmed in every way: the
same command ends with the same bytes, or says in one line which file is not what it was."""

from __future__ import annotations

import builtins
import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import QUICK, Outcome, inside

KILLS = 40
OFTEN = ("trainer.checkpoint_every=1", "sft.stages=[6,6]", "rl.updates=3")


# -- kill -9 ---------------------------------------------------------------------------------------


def counting(at: int | None, total: Path) -> None:
    """Count what this process does to files: opened for writing, moved, made. Die at the given one,
    before it is done."""
    done = [0]

    def before(original: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if writes(*arguments, **named):
                done[0] += 1
                if done[0] == at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        return call

    def for_writing(_file: Any, mode: str = "r", *_rest: Any, **_named: Any) -> bool:
        return any(letter in mode for letter in "wax+")

    opened = before(io.open, for_writing)
    always = lambda *_a, **_n: True  # noqa: E731
    builtins.open = io.open = opened  # type: ignore[assignment]
    os.replace, os.mkdir = before(os.replace, always), before(os.mkdir, always)
    original = os._exit

    def leaving(code: int) -> None:
        if at is None:
            with os.fdopen(os.open(total, os.O_CREAT | os.O_WRONLY), "w") as stream:
                stream.write(str(done[0]))
        original(code)

    os._exit = leaving  # type: ignore[assignment]


def in_a_child(folder: Path, at: int | None = None) -> int:
    """A run in a process of its own, killed before file operation `at`; its exit status."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            counting(at, folder / "operations")
            where = (f"init.root={folder / 'inits'}", f"hydra.run.dir={folder / 'run'}")
            code = inside(*QUICK, *OFTEN, *where).code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
def test_killed_at_forty_file_operations(tmp_path: Path) -> None:
    """From nothing, start model included: the bytes of a run that nobody killed."""
    whole = tmp_path / "whole"
    whole.mkdir()
    assert in_a_child(whole) == 0
    total = int((whole / "operations").read_text())
    assert total > 100
    for kill in range(KILLS):
        folder = tmp_path / f"killed{kill}"
        folder.mkdir()
        at = 1 + kill * (total - 2) // (KILLS - 1)  # the last one is that of the count itself
        assert in_a_child(folder, at) == -signal.SIGKILL, at
        assert in_a_child(folder) == 0, at
        for name in ("items.parquet", "latents.parquet", "model/model.safetensors"):
            assert (folder / "run" / name).read_bytes() == (whole / "run" / name).read_bytes(), at
        records = [json.loads((f / "run/result.json").read_text()) for f in (folder, whole)]
        assert records[0]["metrics"] == records[1]["metrics"]
        left = [path for path in folder.rglob("*") if path.name.endswith(".part")]
        assert not left and not (folder / "run/evaluation").exists(), (at, left)
        shutil.rmtree(folder)


# -- harmed artefacts ------------------------------------------------------------------------------

HARMS: dict[str, Callable[[bytes], bytes | None]] = {
    "empty": lambda _: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "garbage": lambda content: b"\x93\x00garbage\xff" * 9,
    "a flipped bit": lambda c: (
        c[: len(c) * 3 // 4] + bytes([c[len(c) * 3 // 4] ^ 4]) + c[len(c) * 3 // 4 + 1 :]
    ),
    "gone": lambda _: None,
}
RUN_FILES = (
    *("result.json", "metrics.csv", "checkpoints/last.ckpt", "questions.parquet", "run.log"),
    *(".hydra/config.yaml", ".hydra/overrides.yaml", "evaluation/*/*.parquet"),
)
INIT_FILES = (
    *("init.json", "model/model.safetensors", "model/config.json", "model/latentbench.json"),
    *("model/tokenizer.json", "model/tokenizer_config.json", "metrics.csv"),
)
# What a run writes and never reads again, and what it makes anew.
UNREAD = ("run.log", ".hydra/", "questions.parquet")


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A run that was stopped in the middle of RL with its start model, the same run uncut, and
    another run stopped there."""
    folder = tmp_path_factory.mktemp("interrupted")
    from latentbench.runtime.checkpoints import Checkpoints

    original = Checkpoints.on_train_batch_end
    stop = [False]

    def stopping(self: Any, trainer: Any, module: Any, *rest: Any) -> None:
        if stop[0] and module.update == 2 and hasattr(module, "silent_updates"):
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, trainer, module, *rest)

    Checkpoints.on_train_batch_end = stopping  # type: ignore[method-assign]
    try:
        for name, seed in (("whole", 0), ("cut", 0), ("other", 1)):
            stop[0] = name != "whole"
            where = (f"init.root={folder / name / 'inits'}", f"hydra.run.dir={folder / name}/run")
            seeds = (f"seed={seed}", f"init.seed={seed}")
            assert inside(*QUICK, *OFTEN, *where, *seeds).code == (143 if stop[0] else 0)
    finally:
        Checkpoints.on_train_batch_end = original  # type: ignore[method-assign]
    yield {name: folder / name for name in ("whole", "cut", "other")}


def targets(folder: Path, pattern: str) -> list[Path]:
    if pattern in INIT_FILES and pattern != "metrics.csv":
        return sorted(folder.glob(f"inits/*/{pattern}"))
    return sorted(folder.glob(f"run/{pattern}"))


def go_on(folder: Path) -> Outcome:
    where = (f"init.root={folder / 'inits'}", f"hydra.run.dir={folder / 'run'}")
    return inside(*QUICK, *OFTEN, *where, "seed=0", "init.seed=0")


def check(folder: Path, whole: Path, harmed: Path, unread: bool) -> None:
    """The same results as of the whole run, or one line that names the harmed file's place."""
    outcome = go_on(folder)
    assert "Traceback" not in outcome.out + outcome.err
    if outcome.code == 0:
        for name in ("items.parquet", "latents.parquet", "model/model.safetensors"):
            assert (folder / "run" / name).read_bytes() == (whole / "run" / name).read_bytes()
        return
    lines = outcome.err.strip().splitlines()
    assert not unread and outcome.code == 2 and len(lines) == 1, outcome
    named = {harmed.name, "init.root", "its result.json", "another run", "holds files but no"}
    assert any(name in lines[0] for name in named), lines


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [*RUN_FILES, *INIT_FILES[:-1]])
def test_a_harmed_file_is_named_or_makes_no_difference(
    pattern: str, interrupted: dict[str, Path], tmp_path: Path
) -> None:
    unread = pattern.startswith(UNREAD)
    for number, (name, harm) in enumerate(HARMS.items()):
        folder = tmp_path / str(number)
        shutil.copytree(interrupted["cut"], folder)
        (file, *_) = targets(folder, pattern)
        content = harm(file.read_bytes())
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        check(folder, interrupted["whole"], file, unread and name != "result.json")
    folder = tmp_path / "foreign"
    shutil.copytree(interrupted["cut"], folder)
    (file, *_), (foreign, *_) = targets(folder, pattern), targets(interrupted["other"], pattern)
    shutil.copyfile(foreign, file)
    check(folder, interrupted["whole"], file, unread)
