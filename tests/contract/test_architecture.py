"""Which way the arrows point: docs/architecture.md is held to the imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from latentbench.config import plugins

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "latentbench"
FILES = sorted(PACKAGE.rglob("*.py"))
PLUGINS = [
    (kind, path.stem)
    for kind in plugins.KINDS
    for path in sorted((PACKAGE / kind).glob("[!_]*.py"))
]


@cache
def imports(path: Path, at_once: bool = False) -> frozenset[str]:
    """The modules that a file imports, anywhere in it or, with `at_once`, when it is loaded."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level and ROOT / "analysis" in path.parents:  # one package under two names
                continue
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def own(path: Path) -> set[str]:
    return {name for name in imports(path) if name.partition(".")[0] == "latentbench"}


def room(path: Path) -> str:
    """The entry of the package's folder that a file stands in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def rows() -> dict[str, int]:
    """The row of the page's table that each entry stands in."""
    lines = (ROOT / "docs/architecture.md").read_text().splitlines()
    cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
    named = [re.findall(r"`(\w+)(?:\.py|/)`", cell) for cell in cells]
    found = [(name, row) for row, names in enumerate(named) for name in names]
    assert len(found) == len(dict(found)), "an entry stands in two rows"
    return dict(found)


def test_the_page_leaves_nothing_out() -> None:
    assert set(rows()) == {room(path) for path in FILES} - {"__init__"}


@pytest.mark.parametrize("row", range(10))
def test_arrows_point_one_way(row: int) -> None:
    """A file imports from its own row and from those above it on the page."""
    assert max(rows().values()) == 9
    for path in FILES:
        if rows().get(room(path)) == row:
            for module in own(path):
                other = module.split(".")[1] if "." in module else "__init__"
                assert rows().get(other, 0) <= row, f"{path.relative_to(ROOT)} imports {module}"


def test_no_file_comes_back_to_itself() -> None:
    names = {}
    for path in FILES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts).removesuffix(".__init__")] = path
    graph = {
        name: {other for other in imports(path, at_once=True) if other in names and other != name}
        for name, path in names.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"a circle: {circle.args[1]}")


def test_plugins_load_without_transformers_and_lightning() -> None:
    """In a fresh interpreter, with all of them registered."""
    code = (
        "import sys; from latentbench.config import sections; sections.register();"
        "heavy = ('transformers', 'lightning', 'datasets', 'wandb');"
        "print(*[name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_a_plugin_imports_no_other_plugin_and_nothing_above(kind: str, name: str) -> None:
    allowed = {"errors", "keys", "records", "filters"}
    for module in own(PACKAGE / kind / f"{name}.py"):
        parts = module.split(".")[1:]
        if not parts or parts[0] in allowed:
            continue
        if kind == "sft_loss" and parts[0] == "model":  # a loss asks the policy for its passes
            assert len(parts) == 1 or parts[1] == "policy"
            continue
        assert parts[0] in plugins.KINDS, module
        if len(parts) > 1 and (PACKAGE / parts[0] / f"{parts[1]}.py").is_file():
            assert parts[1].startswith("_"), f"{kind}/{name} imports the plug-in {module}"


def test_keys_and_records_import_nothing_of_the_project() -> None:
    for name in ("keys", "records", "errors"):
        assert own(PACKAGE / f"{name}.py") == set()


def test_what_computes_knows_no_lightning() -> None:
    """Plug-ins, models and losses are pure; state begins above them."""
    for path in FILES:
        if rows().get(room(path), 0) < rows()["runtime"]:
            assert not any(m.partition(".")[0] == "lightning" for m in imports(path)), path


@pytest.mark.parametrize("path", sorted((ROOT / "analysis").rglob("*.py")), ids=lambda p: p.stem)
def test_analysis_reads_run_directories_and_no_package(path: Path) -> None:
    roots = {module.partition(".")[0] for module in imports(path)}
    assert not roots & {"latentbench", "analysis", "torch", "lightning", "transformers"}
