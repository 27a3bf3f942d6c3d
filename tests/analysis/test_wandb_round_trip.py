"""From a run through what wandb really writes, offline, back to a table."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from driver import QUICK, inside

from latentbench.analysis.build import build
from latentbench.analysis.collect import collect
from latentbench.analysis.runs import AnalysisError
from latentbench.analysis.spec import DEFAULT, read_spec
from latentbench.analysis.table import markdown


def logged_records(content: bytes) -> Iterator[bytes]:
    """The records of a file in the log format of LevelDB, which is wandb's: blocks of 32 KiB, in
    them pieces (checksum, length, kind: whole, first, middle, last)."""
    place, parts = 7, b""  # behind the file's own header
    while place < len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        if kind == 0:
            return
        parts = (b"" if kind in (1, 2) else parts) + content[place + 7 : place + 7 + length]
        if kind in (1, 4):
            yield parts
        place += 7 + length


def as_shown(folder: Path) -> SimpleNamespace:
    """A finished run as wandb's public API shows it, from the records of its offline file."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.rglob("*.wandb")
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    run = SimpleNamespace(id="", display_name="", tags=[])
    for data in logged_records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
        for update in record.run.config.update if kind == "run" else ():
            config[update.key] = json.loads(update.value_json)
        for item in record.history.item if kind == "history" else ():
            summary["/".join([item.key, *item.nested_key][:1])] = json.loads(item.value_json)
        for item in record.summary.update if kind == "summary" else ():
            summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    return SimpleNamespace(
        id=run.run_id,
        name=run.display_name,
        tags=list(run.tags),
        state="finished",
        config=config,
        summary=summary,
    )


@pytest.mark.slow
def test_what_wandb_writes_becomes_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    logger = ("logger=wandb", "logger.wandb.mode=offline")
    shown = []
    for name, more in {
        "a": ("seed=0",),
        "b": ("seed=1",),
        "c": ("seed=0", "noise=per_step_mask"),
        "d": ("seed=1", "noise=per_step_mask"),
        "e": ("seed=0", "protocol.seed=5"),
    }.items():
        outcome = inside(*QUICK, *logger, *more, f"hydra.run.dir={name}")
        assert outcome.code == 0, outcome
        shown.append(as_shown(tmp_path / name))
    shared, _, steps, _, other = shown
    assert "noise=per_step_mask" in steps.name and "noise=per_step_mask" in steps.tags
    assert shared.name == "dropout_grpo-arithmetic-s0"
    for one, folder in zip(shown, "abcde", strict=True):
        result = json.loads((tmp_path / folder / "result.json").read_text())
        record = one.config["latentbench"]["record"]
        assert {k: record[k] for k in ("run_id", "protocol_id", "method")} == {
            k: result[k] for k in ("run_id", "protocol_id", "method")
        }
        assert one.config["latentbench"]["choices"] == result["config"]["choices"]
        assert {k: v for k, v in one.summary.items() if k in result["metrics"]} == pytest.approx(
            result["metrics"]
        )

    def project(*runs: Any) -> None:
        api = SimpleNamespace(runs=lambda _project: list(runs))
        monkeypatch.setattr("latentbench.analysis.wandb_runs._api", lambda: api)

    project(*shown[:4])
    study = collect(["wandb://me/toy"])
    rows = sorted(set(study.names.values()))
    assert rows == [f"dropout_grpo (choices.noise={n})" for n in ("per_step_mask", "shared_mask")]
    tables = build(study, read_spec(DEFAULT, None))
    assert all(row in markdown(tables) for row in rows)
    project(shared, other)
    with pytest.raises(AnalysisError, match="protocol"):
        collect(["wandb://me/toy"])
