"""Runs of a W&B project as records: what was logged there, without items.

The configuration stands under the key `latentbench`, as the trainer's logger puts it, and what the
run is known by (run_id, protocol_id, method, start model, commit) under `record` in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .runs import AnalysisError, Refused, Run

_KIND = {"failed": "failed", "crashed": "failed", "killed": "failed"}


def project_runs(project: str, api: Any = None) -> tuple[list[Run], list[Refused]]:
    """The finished runs of `entity/project`, and every other run with its reason.

    `api` is a `wandb.Api`, made here unless given. AnalysisError where wandb is not installed or
    does not answer.
    """
    if project.count("/") != 1:
        raise AnalysisError(f"wandb://{project}: give wandb://entity/project")
    try:
        found = list((api or _api()).runs(project))
    except AnalysisError:
        raise
    except Exception as error:  # wandb raises its own, requests' and plain ValueError alike
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AnalysisError(
            f"wandb://{project}: no answer from W&B ({line}); run `wandb login`, or give the run "
            "directories"
        ) from error
    runs, refused = [], []
    for one in sorted(found, key=lambda one: str(one.id)):
        path = Path("wandb:") / project / str(one.id)
        fault = _fault(one)
        if fault:
            refused.append(Refused(path, *fault))
        else:
            runs.append(Run(path, _record(one)))
    return runs, refused


def _api() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise AnalysisError(
            "wandb://...: wandb is not installed; pip install wandb, or give the run directories"
        ) from error
    return wandb.Api()


def _fault(one: Any) -> tuple[str, str] | None:
    """Kind and reason where a run cannot be used."""
    if one.state != "finished":
        return _KIND.get(one.state, "unfinished"), f"W&B state is {one.state}"
    config = one.config.get("latentbench")
    if not isinstance(config, Mapping) or not isinstance(config.get("seed"), int):
        return "unreadable", "its W&B config has no key 'latentbench' with a seed; remove the run"
    record = config.get("record")
    names = ("run_id", "protocol_id", "method")
    if not isinstance(record, Mapping) or not all(isinstance(record.get(n), str) for n in names):
        return "unreadable", (
            "its W&B config does not say run_id, protocol_id and method, so nobody knows what it "
            "may be compared with; give its run directory"
        )
    return None


def _record(one: Any) -> dict[str, Any]:
    """A W&B run in the shape of result.json."""
    config, summary = dict(one.config["latentbench"]), dict(one.summary)
    record = config.pop("record")
    return {
        "schema": 1,
        "status": "completed",
        "run_id": record["run_id"],
        "protocol_id": record["protocol_id"],
        "method": record["method"],
        "data": _name(config.get("data")),
        "model": _name(config.get("model")),
        "seed": config["seed"],
        "config": config,
        "init": {"id": record.get("init")},
        "provenance": {"version": record.get("version"), "git_commit": record.get("commit")},
        "timing": {},
        "metrics": {k: float(v) for k, v in sorted(summary.items()) if _is_metric(k, v)},
    }


def _name(part: Any) -> str:
    return str(part.get("name") if isinstance(part, Mapping) else part)


def _is_metric(name: str, value: Any) -> bool:
    """A finite number under a name with a slash; names from `_` are W&B's own."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "/" in name and not name.startswith("_") and number and math.isfinite(value)
