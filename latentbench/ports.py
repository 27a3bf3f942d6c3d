"""Ports: a published method on another carrier or another start model than its own.

A method file says which carrier, curriculum and SFT loss are its own. A run that replaces one of
them, or starts from weights that were made with others (`init.path`), is named `<method>-port` in
its result and in every table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

NATIVE = ("carrier", "curriculum", "sft_loss")


def replaced(
    method_file: Path, choices: Mapping[str, str], start: Mapping[str, Any]
) -> dict[str, str]:
    """What is not the method's own: kind -> what stands there instead.

    `start` is what a model directory says of the SFT that it came from; kinds that it leaves out
    are unknown and taken for the method's own. A method from outside the project has no file here,
    and nothing to be held to.
    """
    if not method_file.is_file():
        return {}
    lines = yaml.safe_load(method_file.read_text())["defaults"]
    native = {
        key.removeprefix("override /"): value for line in lines for key, value in line.items()
    }
    found = {}
    for kind in NATIVE:
        if choices[kind] != native[kind]:
            found[kind] = choices[kind]
        elif start.get(kind, native[kind]) != native[kind]:
            found[f"init {kind}"] = str(start[kind])
    return found


def label(method: str, port: Mapping[str, str]) -> str:
    """The name under which a run stands in tables."""
    return f"{method}-port" if port else method
