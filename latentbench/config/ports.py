"""Ports: a published method on another carrier or another start model than its own.

A method file says which carrier, curriculum and SFT loss are its own. A run with another plug-in or
other values in the place of one of them, or from weights that were made with others (`init.path`),
is named `<method>-port` in its result and in every table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latentbench.config.plugins import configured, native_choices, plugin_name

NATIVE = ("carrier", "curriculum", "sft_loss")


def replaced(
    conf: Path, method: str, parts: Mapping[str, Any], start: Mapping[str, str]
) -> dict[str, str]:
    """What is not the method's own: kind -> what stands there instead.

    `parts` are the run's plug-ins by kind. `start` says with which the start model was made (see
    `origin`); kinds that it leaves out are unknown and taken for the method's own, and where it
    names a plug-in without values, plug-ins alone are compared. A method from outside the project
    has no file in `conf`, and nothing to be held to.
    """
    chosen = native_choices(conf, method)
    found = {}
    for kind in NATIVE if chosen else ():
        native = configured(conf, kind, chosen[kind])
        if parts[kind] != native:
            found[kind] = description(parts[kind])
        elif start.get(kind, description(native)) not in (description(native), plugin_name(native)):
            found[f"init {kind}"] = start[kind]
    return found


def description(part: Any) -> str:
    """A plug-in in words: its name and its values."""
    return " ".join([plugin_name(part), *(f"{k}={v}" for k, v in asdict(part).items())])


def origin(record: Mapping[str, Any]) -> dict[str, str]:
    """The plug-ins with which a model was made, by kind, as `latentbench.json` has them; weights
    that no SFT of ours made may say their carrier alone."""
    known = record.get("sft", record)
    return {kind: known[kind] for kind in NATIVE if kind in known}


def label(method: str, port: Mapping[str, str]) -> str:
    """The name under which a run stands in tables."""
    return f"{method}-port" if port else method
