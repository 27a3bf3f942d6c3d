"""What a newcomer types first: help, completion, flags in any order, pipes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from driver import CHECKOUT, PROGRAM, inside, outside, tree


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_help_is_a_page_to_act_on(tmp_path: Path) -> None:
    outcome = inside("--help", "rl.prompts=7")
    assert outcome.code == 0 and outcome.err == ""
    assert "rl.prompts=7" in outcome.out, "it shows what was chosen"
    assert "\nanalysis:" not in outcome.out  # table specs, which no run chooses
    for folder in set((CHECKOUT / "conf").iterdir()) - {CHECKOUT / "conf" / "analysis"}:
        for option in folder.glob("*.yaml") if folder.is_dir() else ():
            assert option.stem in outcome.out
    assert "base_" not in outcome.out
    assert outcome.out.count("python run.py") >= 5
    for word in ("result.json", "items.parquet", "hydra.run.dir", "seed=0", "rl.updates=", "143"):
        assert word in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 110
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    "flags",
    [
        ("--cfg", "job"),
        ("--info", "defaults-tree"),
        pytest.param(("--hydra-help",), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_other_pages(flags: tuple[str, ...], tmp_path: Path) -> None:
    outcome = inside(*flags)
    assert outcome.code == 0 and outcome.out
    assert tree(tmp_path) == {}


def test_composition_does_not_import_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from latentbench.cli import main; sys.argv = ['run.py', '--cfg', 'job']\n"
        "main()\n"
        "loaded = {n for n in ('torch._C', 'lightning', 'transformers', 'pandas') "
        "if n in sys.modules}\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["method"]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_completion(shell: str, tmp_path: Path) -> None:
    assert "python" in outside("-sc", f"install={shell}", cwd=tmp_path).out


@pytest.mark.parametrize(
    ("typed", "offered", "hidden"),
    [
        ("method=", "method=dropout_grpo", "base_"),
        ("noise=", "noise=per_step_mask", "base_"),
        ("rl.gr", "rl.group_size=", "rl.lr"),
    ],
)
def test_completion_of_words(typed: str, offered: str, hidden: str, tmp_path: Path) -> None:
    line = f"python run.py {typed}"
    where = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    outcome = outside("-sc", "query=bash", cwd=tmp_path, **where)
    assert offered in outcome.out.split() and hidden not in outcome.out


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param("--help", marks=pytest.mark.slow),
        "--info defaults-tree",
        "-sc install=bash",
    ],
)
def test_a_closed_pipe_is_silent(flags: str, tmp_path: Path) -> None:
    shell = f"{sys.executable} {PROGRAM} {flags} | head -n 1"
    done = subprocess.run(shell, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""


def test_flags_may_stand_anywhere() -> None:
    from latentbench.cli import flags_first

    typed = ["method=dropout_grpo", "data=gsm8k", "-m", "seed=0,1,2", "debug=smoke"]
    typed += ["--cfg", "job", "model=tiny"]
    assert flags_first(typed) == [
        *("-m", "--cfg", "job", "method=dropout_grpo", "data=gsm8k", "seed=0,1,2", "debug=smoke"),
        "model=tiny",
    ]


def test_a_traceback_for_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.errors import MissingConfigException

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(MissingConfigException):
        inside("method=nonsense")


def test_a_stand_in_gives_way_to_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentbench.runtime.deferred import StandIn, defer, settle

    (tmp_path / "heavy_module.py").write_text("weight = 3\n")
    (tmp_path / "holder_module.py").write_text("import heavy_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    defer("heavy_module")
    import holder_module  # type: ignore[import-not-found]

    stand_in = holder_module.heavy_module
    assert isinstance(stand_in, StandIn)
    assert stand_in.weight == 3
    assert holder_module.heavy_module is sys.modules["heavy_module"] is settle("heavy_module")
    assert not isinstance(holder_module.heavy_module, StandIn)
    for name in ("heavy_module", "holder_module"):
        del sys.modules[name]
    assert os.getcwd() == str(tmp_path)
