"""docs/extend.md does what it says: its files are written into a copy and its commands are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extend.md").read_text()
FILE = re.compile(r"`((?:latentbench|conf)/[\w/.]+)`:\n\n```\w+\n(.*?)```", re.S)
COMMANDS = re.compile(r"```bash\n(.*?)```", re.S)
LONGEST = 40


def test_the_example_is_short() -> None:
    files = dict(FILE.findall(PAGE))
    assert set(files) == {"latentbench/noise/stretch.py", "conf/noise/stretch.yaml"}
    code = [line for line in files["latentbench/noise/stretch.py"].splitlines() if line.strip()]
    assert len(code) < LONGEST


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path) -> None:
    copied = ("latentbench", "conf", "analysis", "hydra_plugins", "tests", "run.py")
    for name in copied:
        source = ROOT / name
        if source.is_dir():
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tmp_path / name, symlinks=True, ignore=skipped)
        else:
            shutil.copyfile(source, tmp_path / name)
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    for name, content in FILE.findall(PAGE):
        (tmp_path / name).write_text(content)
    (block,) = COMMANDS.findall(PAGE)
    commands = block.strip().splitlines()
    assert len(commands) == 3
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if "--check" in command:
            assert re.search(r"stretch \(latent\) +ok", done.stdout)
        if "pytest" in command:
            assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 3
