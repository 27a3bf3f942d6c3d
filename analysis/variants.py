"""Names for rows: runs of one method whose configs differ get one row each, never one mean.

`method=dropout_grpo noise=none,shared_mask` is one method and two rows. A row is named by its
method and by the config values in which it differs from its siblings; the seed, places on disk and
presets whose values the config holds anyway are not differences.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from .runs import Run

_IGNORED_BRANCHES = {"hydra", "logger", "paths"}
_PLACES = {"dir", "path", "root", "progress", "profiler", "checkpoint_every", "threads"}
_SEED = {"seed"}
_IGNORED_ENDINGS = ("_dir", "_path")
# Presets leave their values elsewhere in the config, and limits are recorded as what they shorten.
# `limit.train_items` is not here: it cuts the training data, and nothing else in a config says so.
_RECORDED_ELSEWHERE = frozenset(
    [f"choices.{name}" for name in ("logger", "trainer", "debug", "experiment")]
    + [f"limit.{name}" for name in ("eval_items", "rl_updates", "samples", "sft_updates_per_stage")]
)


def row_names(runs: Sequence[Run], apart: Collection[str] = ()) -> dict[Path, str]:
    """The row that each run belongs to, by run path; runs of one name differ only in their seed.

    Config keys in `apart`, and those below them, are told apart elsewhere and name no row.
    """
    names: dict[Path, str] = {}
    ignored = _RECORDED_ELSEWHERE.union(apart)
    families: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        families.setdefault((run.data, run.model, run.method), []).append(run)
    for (_, _, method), members in families.items():
        configs = [_without(config_values(run, with_seed=False), ignored) for run in members]
        for run, label in zip(members, _labels(configs), strict=True):
            names[run.path] = f"{method} ({label})" if label else method
    return names


def config_values(run: Run, with_seed: bool = True) -> dict[str, str]:
    """The config of a run as dotted keys and texts, without places on disk and logging."""
    skipped = _PLACES if with_seed else _PLACES | _SEED
    return _flatten(run.result.get("config") or {}, skipped)


def _without(config: dict[str, str], apart: Collection[str]) -> dict[str, str]:
    below = tuple(f"{key}." for key in apart)
    return {k: v for k, v in config.items() if k not in apart and not k.startswith(below)}


def _labels(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """`key=value, ...` for each config over the keys in which they differ; empty if none does."""
    keys = sorted(set().union(*configs))
    differing = [key for key in keys if len({config.get(key) for config in configs}) > 1]
    # Keys that only some configs have follow from a choice that all have (noise.rate from
    # noise.name): they are named only where the shared keys do not tell the configs apart.
    shared = [key for key in differing if all(key in config for config in configs)]
    distinct = len({tuple(config.get(key) for key in differing) for config in configs})
    short = [_label(config, shared) for config in configs]
    return short if len(set(short)) == distinct else [_label(c, differing) for c in configs]


def _label(config: Mapping[str, str], keys: Sequence[str]) -> str:
    return ", ".join(f"{key}={config.get(key, 'absent')}" for key in keys)


def _flatten(tree: Mapping[str, Any], skipped: Collection[str], prefix: str = "") -> dict[str, str]:
    """Dotted leaf keys with their values as text, without what cannot change a result."""
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if name in skipped or name.endswith(_IGNORED_ENDINGS):
            continue
        if not prefix and name in _IGNORED_BRANCHES:
            continue
        if isinstance(value, Mapping):
            flat.update(_flatten(value, skipped, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def natural_key(text: str) -> tuple[int, float, str]:
    """Numbers in their order, before texts in theirs."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text
