"""Plug-ins of another package: entry points for the Python files, a search path for the YAML files.

A toy package is built and installed as a user would, without a network.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driver import CHECKOUT, QUICK, Outcome, outside
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from latentbench.config import plugins, sections
from latentbench.errors import InputError

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "latentbench-toy"
version = "{version}"

[project.entry-points."latentbench.advantage"]
{entries}

[tool.setuptools]
packages = ["toy", "toy.conf", "toy.conf.advantage"]

[tool.setuptools.package-data]
"toy.conf" = ["**/*.yaml"]
"""

SIGN = '''
"""The sign of what is above or below a group's mean, times `scale`."""

from dataclasses import dataclass

import torch

from latentbench.errors import InputError
from latentbench.records import Groups


@dataclass(frozen=True)
class Sign:
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise InputError(f"advantage.scale={self.scale}: must be above 0, for example 1")

    def __call__(self, groups: Groups) -> torch.Tensor:
        rewards = groups.rewards
        return self.scale * torch.sign(rewards - rewards.mean(dim=1, keepdim=True))
'''

SOURCES = {
    "__init__.py": "",
    "sign.py": SIGN,
    "missing.py": "import no_such_module\n",
    "plain.py": "class Plain:\n    pass\n",
    "odd.py": "import dataclasses\n\n\n@dataclasses.dataclass(frozen=True)\nclass Odd:\n"
    "    held: set[int] = dataclasses.field(default_factory=set)\n",
    "conf/__init__.py": "",
    "conf/advantage/__init__.py": "",
    "conf/advantage/sign.yaml": "defaults: [base_sign]\n",
    "conf/advantage/strong_sign.yaml": "defaults: [base_sign]\nscale: 5.0\n",
    **{
        f"conf/advantage/{name}.yaml": f"defaults: [base_{name}]\n"
        for name in ("named", "missing", "plain", "odd", "absent")
    },
}

ENTRIES = {
    "sign": "toy.sign",
    "named": "toy.sign:Sign",
    "missing": "toy.missing",
    "plain": "toy.plain:Plain",
    "odd": "toy.odd",
    "absent": "toy.sign:Absent",
}

SEARCH = "hydra.searchpath=[pkg://toy.conf]"


def installed(folder: Path, entries: Mapping[str, str] = ENTRIES, version: str = "0.1.0") -> str:
    """The folder of a `pip install` of the toy package."""
    source, target = folder / "source", folder / "site"
    lines = "\n".join(f'{name} = "{value}"' for name, value in entries.items())
    for name, text in SOURCES.items():
        path = source / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (source / "pyproject.toml").write_text(PROJECT.format(version=version, entries=lines))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(target)]
    subprocess.run([*command, str(source)], check=True, capture_output=True, text=True)
    return str(target)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return installed(tmp_path_factory.mktemp("toy"))


def run(site: str, *arguments: str, cwd: Path) -> Outcome:
    path = os.pathsep.join([site, str(CHECKOUT), os.environ.get("PYTHONPATH", "")])
    return outside(*arguments, cwd=cwd, PYTHONPATH=path)


@pytest.mark.slow
def test_a_run_with_a_plugin_of_another_package(toy: str, tmp_path: Path) -> None:
    """Through all stages; the package's version is on record, and another one is another run."""
    command = [SEARCH, *QUICK, "advantage=sign", "advantage.scale=2"]
    command += [f"hydra.run.dir={tmp_path / 'run'}"]
    done = run(toy, *command, cwd=tmp_path)
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "completed"
    assert result["config"]["advantage"] == {"scale": 2.0}
    assert result["config"]["choices"]["advantage"] == "sign"
    assert result["provenance"]["packages"]["latentbench-toy"] == "0.1.0"
    again = run(toy, *command, cwd=tmp_path)
    assert again.code == 0 and "already completed" in again.out
    refused = run(installed(tmp_path, version="0.2.0"), *command, cwd=tmp_path)
    assert refused.code == 2 and len(refused.err.splitlines()) == 1
    assert "holds another run" in refused.err


@pytest.mark.slow
def test_help_lists_it_where_the_search_path_is_given(toy: str, tmp_path: Path) -> None:
    (listed,) = [
        line
        for line in run(toy, SEARCH, "--help", cwd=tmp_path).out.splitlines()
        if line.startswith("advantage:")
    ]
    assert {"sign,", "strong_sign", "mean,"} <= set(listed.split())
    assert "strong_sign" not in run(toy, "--help", cwd=tmp_path).out
    folder = f"hydra.searchpath=[file://{toy}/toy/conf]"
    assert "strong_sign" in run(toy, folder, "--help", cwd=tmp_path).out


@pytest.mark.slow
def test_a_preset_of_another_package(toy: str, tmp_path: Path) -> None:
    shown = run(toy, SEARCH, "advantage=strong_sign", "--cfg", "job", cwd=tmp_path)
    assert "advantage:\n  scale: 5.0\n" in shown.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["advantage=sign", "advantage.scale=big"], "advantage.scale"),
        (["advantage=sign", "advantage.scales=2"], "scales"),
        (["advantage=sign", "advantage.scale=-1"], "advantage.scale=-1.0: must be above 0"),
        (["advantage=missing"], "toy.missing of latentbench-toy 0.1.0 cannot be loaded: ModuleNot"),
        (["advantage=absent"], "toy.sign:Absent of latentbench-toy 0.1.0 cannot be loaded: Attrib"),
        (["advantage=plain"], "toy.plain:Plain of latentbench-toy 0.1.0 is 0 frozen dataclasses"),
        (["advantage=odd"], "toy.odd of latentbench-toy 0.1.0 cannot be loaded: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], said: str, toy: str, tmp_path: Path
) -> None:
    outcome = run(toy, SEARCH, *arguments, cwd=tmp_path)
    assert outcome.code == 2 and outcome.out == ""
    assert len(outcome.err.splitlines()) == 1 and said in outcome.err


def test_a_name_of_this_repository_is_taken(tmp_path: Path) -> None:
    site = installed(tmp_path, {"mean": "toy.sign"})
    outcome = run(site, "--help", cwd=tmp_path)
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        "error: advantage=mean: a plug-in of latentbench-toy 0.1.0, but latentbench itself has one "
        "of that name; rename the entry point or uninstall the package"
    ]


# -- in this process: what is on a search path of modules is installed -----------------------------

HOLDER = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Held:
    markers: bool = True
"""


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A package's metadata as an installer writes it: name, version, one entry point."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "held_module.py").write_text(HOLDER)

    def write(package: str, version: str, kind: str, entry: str) -> None:
        for old in tmp_path.glob(f"{package}-*.dist-info"):
            shutil.rmtree(old)
        folder = tmp_path / f"{package}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {package}\nVersion: {version}\n")
        (folder / "entry_points.txt").write_text(f"[latentbench.{kind}]\n{entry}\n")
        importlib.invalidate_caches()
        plugins.external_plugins.cache_clear()

    yield write
    plugins.external_plugins.cache_clear()
    sys.modules.pop("held_module", None)


def typed(**parts: Any) -> sections.Config:
    """The default configuration with other plug-ins in place."""
    sections.register()
    with initialize_config_dir(str(CHECKOUT / "conf"), version_base="1.3"):
        config = compose("config", [], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    found = replace(sections.typed(config), **parts)
    HydraConfig.instance().cfg = None
    return found


def identities(config: sections.Config) -> tuple[str, str, str]:
    """run_id, protocol_id, init.id."""
    from latentbench.evaluation.loading import Home, load_benchmark
    from latentbench.evaluation.stage import protocol_identity
    from latentbench.model.layout import Layout
    from latentbench.model.tokenizer import add_markers, character_tokenizer
    from latentbench.records import Item, Splits
    from latentbench.run.init_store import identify
    from latentbench.run.training import run_identity

    tokenizer = character_tokenizer()
    layout = Layout(tokenizer, add_markers(tokenizer), config.data.template, True)
    choices = dict.fromkeys(plugins.KINDS, "any")
    data = Splits([], [], [Item("1+1=", (), "2")], {"digest": "d"})
    init = identify(config, choices, data, tokenizer)
    grader = "held" if type(config.reward).__module__ == "held_module" else "exact_number"
    home = Home("arithmetic", data, None, config.reward, grader)
    one = load_benchmark("arithmetic", sections.BenchmarkConfig(), home, "test", None, layout)
    protocol = protocol_identity(config.protocol, config.answer.budget, 3, [one])
    return run_identity(config, choices), protocol, init


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("reward", (True, True, False)),
        ("curriculum", (True, False, True)),
        ("carrier", (True, False, True)),
        ("advantage", (True, False, False)),
        ("transform", (True, False, False)),
    ],
)
@pytest.mark.parametrize("value", ["held_module", "held_module:Held"])
def test_identities_follow_the_version_of_what_they_use(
    kind: str, changed: tuple[bool, ...], value: str, publish: Callable[..., None]
) -> None:
    publish("held", "1", kind, f"held = {value}")
    cls = plugins.plugin(kind, "held")
    assert cls is not None
    config = typed(**{kind: {"held": cls()} if kind == "transform" else cls()})
    assert plugins.plugin_packages(config) == {"held": "1"}
    one = identities(config)
    publish("held", "2", kind, f"held = {value}")
    other = identities(config)
    assert tuple(a != b for a, b in zip(one, other, strict=True)) == changed


def test_what_is_installed_but_not_used_changes_no_identity(publish: Callable[..., None]) -> None:
    config = typed()
    before = identities(config)
    publish("held", "1", "reward", "held = held_module")
    assert plugins.plugin_packages(config) == {} and identities(config) == before
    assert "held_module" not in sys.modules


def test_a_data_set_of_a_benchmark_counts(publish: Callable[..., None]) -> None:
    publish("held", "1", "data", "held = held_module")
    config = typed(eval={"held": sections.BenchmarkConfig()})
    assert plugins.plugin_packages(config) == {"held": "1"}


def test_two_packages_with_one_name(publish: Callable[..., None]) -> None:
    publish("held", "1", "noise", "twice = held_module")
    publish("other", "3", "noise", "twice = held_module")
    with pytest.raises(InputError, match=r"noise=twice: a plug-in of \w+ \d, but \w+ \d has one"):
        plugins.external_plugins()


def test_names_and_classes(publish: Callable[..., None]) -> None:
    publish("held", "1", "noise", "held = held_module:Held")
    assert {"held", "none"} <= set(plugins.plugin_names("noise"))
    assert "held" not in plugins.plugin_names("reward")
    assert getattr(plugins.plugin("noise", "held"), "__name__", None) == "Held"
    assert plugins.plugin("reward", "held") is None
