"""A wheel alone, without a checkout: it holds the configuration and the analysis."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds, and nothing else of the project."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(out)]
    copy = out / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], check=True)
    subprocess.run([*build, str(copy)], check=True)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        held.extractall(out / "site")
    return out / "site"


def said(site: Path, here: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, *command], cwd=here, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheel_runs_and_makes_tables(site: Path, tmp_path: Path) -> None:
    entry = "import sys; from latentbench.__main__ import main; sys.exit(main())"
    where = said(site, tmp_path, "-c", "import latentbench; print(latentbench.__file__)")
    assert where.strip() == str(site / "latentbench" / "__init__.py")
    said(site, tmp_path, "-c", entry, "debug=smoke", "hydra.run.dir=run", "init.root=inits")
    table = said(site, tmp_path, "-c", entry, "tables", "run", "--out", "tables")
    assert "dropout_grpo" in table
    report = said(site, tmp_path, "-c", entry, "report", "run", "--out", "page.html")
    assert "page.html" in report and (tmp_path / "page.html").stat().st_size > 10_000
    assert "gain" in said(site, tmp_path, "-m", "latentbench.analysis.tables", "--help")


@pytest.mark.slow
def test_a_wheel_puts_no_other_name_beside_it(site: Path) -> None:
    names = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"latentbench", "hydra_plugins"}
