"""The files of versions say what pyproject.toml says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


def ranges() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["test"]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def pins(name: str) -> dict[str, Version]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    found = (re.match(r"([\w.-]+)==([^ ;]+)", line) for line in lines)
    return {canonicalize_name(m[1]): Version(m[2]) for m in found if m}


def test_the_lowest_versions_are_the_lower_ends_of_the_ranges() -> None:
    """Without torch, whose lowest builds come with a GPU's libraries."""
    lower = {
        name: Version(bound.version)
        for name, requirement in ranges().items()
        for bound in requirement.specifier
        if bound.operator == ">=" and name != "torch"
    }
    assert pins("lowest.txt") == lower


def test_the_lock_file_lies_in_the_ranges_and_has_hashes() -> None:
    locked = pins("newest.lock")
    for name, requirement in ranges().items():
        assert requirement.specifier.contains(locked[name]), name
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements/newest.lock").read_text())
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry.split()[0])
