"""Job folders that the last sweep of their multirun folder did not make.

Hydra writes `multirun.yaml` anew for each sweep and deletes nothing: a folder that is used for a
second, smaller or different sweep still holds jobs of the first. Times of files cannot tell them
apart, for they change when a folder is copied, and a job that was complete already is rightly not
repeated. What can is the content: job n of the basic sweeper is the n-th combination of the
overrides in `multirun.yaml`, and its own are in `.hydra/overrides.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

SWEEP, OVERRIDES = "multirun.yaml", Path(".hydra", "overrides.yaml")
_PAIRS = {"[": "]", "{": "}", "(": ")"}
_FUNCTION = re.compile(r"\s*(choice|range|glob|interval|shuffle|sort)\s*\(")
# The overrides stand at a fixed place in a long file: reading that part alone is ten times faster.
_PART = re.compile(r"^  overrides:\n((?:    .*\n|\n)+)", re.MULTILINE)


def stale_jobs(folders: Sequence[Path]) -> dict[Path, str]:
    """The job folders that the sweep beside them did not make, each with the reason.

    Folders without a `multirun.yaml` beside them, and sweeps whose jobs do not follow from their
    overrides (another sweeper than Hydra's basic one), are taken as they are.
    """
    sweeps: dict[Path, list[tuple[str, ...]] | None] = {}
    reasons: dict[Path, str] = {}
    for folder in folders:
        parent = folder.parent
        if parent not in sweeps:
            file = parent / SWEEP
            sweeps[parent] = sweep_jobs(file) if file.is_file() else None
        jobs = sweeps[parent]
        reason = None if jobs is None else _reason(folder, jobs)
        if reason:
            reasons[folder] = reason
    return reasons


def sweep_jobs(file: Path) -> list[tuple[str, ...]] | None:
    """The overrides of each job of a sweep, in Hydra's order; None where they cannot be known."""
    text = file.read_text(encoding="utf-8")
    if "BasicSweeper" not in text:
        return None
    part = _PART.search(text)
    task = (_yaml(part[1]) or {}).get("task") if part else None
    params = re.search(r"^    params: null$", text, re.MULTILINE)
    if not isinstance(task, list) or params is None:
        return None
    choices = [_choices(str(override)) for override in task]
    if any(values is None for values in choices):
        return None
    return list(product(*(values for values in choices if values is not None)))


def _reason(folder: Path, jobs: Sequence[tuple[str, ...]]) -> str | None:
    file = folder / OVERRIDES
    own = None
    if file.is_file():
        own = sorted(_plain(str(one)) for one in _yaml(file.read_text(encoding="utf-8")) or [])
    number = int(folder.name) if folder.name.isdigit() else None
    where = folder.parent / SWEEP
    if number is not None and number >= len(jobs):
        return f"{where} has {len(jobs)} jobs, 0 to {len(jobs) - 1}: left from an earlier sweep"
    if own is None:
        return None
    wanted = jobs if number is None else [jobs[number]]
    if any(own == sorted(map(_plain, job)) for job in wanted):
        return None
    return f"its overrides are not those of this job in {where}: left from an earlier sweep"


def _choices(override: str) -> list[str] | None:
    """`key=a,b` as `key=a` and `key=b`; None for what only Hydra's own grammar can expand."""
    key, _, value = override.partition("=")
    if _FUNCTION.match(value):
        return _by_grammar(override)
    return [f"{key}={one}" for one in _split(value)]


def _by_grammar(override: str) -> list[str] | None:
    """Hydra's own expansion of `range(...)` and the like; `glob` needs the config tree: None."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_discrete_sweep() or "glob(" in override:
        return None
    key = parsed.get_key_element()
    return [f"{key}={value}" for value in parsed.sweep_string_iterator()]


def _split(value: str) -> list[str]:
    """The parts between commas that stand in no bracket and no quotes."""
    parts, depth, quote = [""], 0, ""
    for character in value:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _PAIRS:
            depth += 1
        elif character in _PAIRS.values():
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return parts


def _plain(override: str) -> str:
    """An override in one spelling: Hydra turns `3e-4` into `0.0003` and may quote a text."""
    key, _, value = override.partition("=")
    value = value.strip().replace(" ", "").replace("'", "").replace('"', "")
    try:
        value = repr(float(value))
    except ValueError:
        value = {"True": "true", "False": "false", "None": "null"}.get(value, value)
    return f"{key.strip()}={value}"


def _yaml(text: str) -> Any:
    import yaml

    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
