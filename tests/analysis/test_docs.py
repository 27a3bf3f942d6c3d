"""docs/analysis.md: its commands run, as they stand there, and lead to what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOC = ROOT / "docs" / "analysis.md"
METHODS = ("dropout_grpo", "temp_grpo")
SEEDS = range(5)


def commands() -> list[list[str]]:
    """The lines of the fenced blocks, as arguments."""
    blocks = re.findall(r"```bash\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def run(arguments: list[str], folder: Path, *more: str) -> str:
    """Run one command with the folder of runs replaced; its output."""
    there = [one.replace("multirun/noise", str(folder)) for one in arguments[1:]]
    command, environment = [sys.executable, *there, *more], os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, (there, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


@pytest.fixture
def sweep(tmp_path: Path, write_run) -> Path:
    """What the first command leaves, with drawn outcomes in place of trained models."""
    root = tmp_path / "noise"
    number = 0
    for method in METHODS:
        for seed in SEEDS:
            folder = write_run(root / str(number), method, seed, benchmarks=("arithmetic",))
            (folder / ".hydra").mkdir()
            own = f"- method={method}\n- seed={seed}\n"
            (folder / ".hydra" / "overrides.yaml").write_text(own)
            number += 1
    (root / "multirun.yaml").write_text(
        "hydra:\n  sweeper:\n    _target_: x.BasicSweeper\n    params: null\n  overrides:\n"
        f"    task:\n    - method={','.join(METHODS)}\n"
        f"    - seed={','.join(map(str, SEEDS))}\n"
    )
    return root


def check(folder: Path) -> None:
    """The files that the page promises."""
    for name in ("paper.md", "paper.tex", "paper.csv", "paper.html", "frame.parquet", "compare.md"):
        assert (folder / name).stat().st_size > 0, name
    assert "| dropout_grpo |     5 |" in (folder / "paper.md").read_text()


def test_the_commands_after_the_sweep_run(sweep: Path) -> None:
    train, *others = commands()
    assert train[1] == "run.py" and [one[2] for one in others] == [
        "analysis.collect",
        "analysis.plan",
        "analysis.tables",
        "analysis.compare",
    ]
    printed = [run(one, sweep) for one in others]
    assert "10 runs" in printed[0] and "seeds per arm" in printed[1]
    check(sweep)


@pytest.mark.slow
def test_all_commands_run(tmp_path: Path) -> None:
    """The sweep for real, on a few problems."""
    folder = tmp_path / "noise"
    train, *others = commands()
    run(train, folder, "debug=smoke", f"init.root={tmp_path / 'inits'}")
    for one in others:
        run(one, folder)
    check(folder)


def test_the_page_names_every_preset_and_kind() -> None:
    from latentbench.analysis.study import KINDS

    text = DOC.read_text(encoding="utf-8")
    presets = [file.stem for file in (ROOT / "conf" / "analysis").glob("*.yaml")]
    assert presets and all(f"--spec {name} " in text or f"{name}.yaml" in text for name in presets)
    assert all(f"`{kind}`" in text for kind in KINDS)
