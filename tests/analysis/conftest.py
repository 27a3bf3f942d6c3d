"""Synthetic run directories: outcomes drawn by a hash, so that they are the same everywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from latentbench.analysis.metrics import summary_metrics
from latentbench.analysis.runs import ITEM_COLUMNS

ITEMS, SAMPLES = 40, 8
KS = (1, 2, 4, 8)


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


@cache
def synthetic_items(
    method: str,
    seed: int,
    benchmarks: tuple[str, ...],
    stages: tuple[str, ...],
    lift: float,
    n_items: int = ITEMS,
    samples: int = SAMPLES,
) -> pd.DataFrame:
    """Items with a difficulty of their own, shared by both stages, so that outcomes correlate.

    Drawn once for all tests: whoever changes the frame takes a copy.
    """
    rows: list[list[Any]] = []
    for benchmark in benchmarks:
        for item in range(n_items):
            uid = hashlib.sha256(f"{benchmark}{item}".encode()).hexdigest()[:16]
            for stage in stages:
                skill = 0.6 * chance(uid) + 0.2 + (lift if stage == "final" else 0.0)
                for sample in range(samples + 1):
                    decode = "greedy" if sample == samples else "sampled"
                    luck = chance(uid, method, seed, stage, sample)
                    luck = (luck + chance(uid, seed, sample)) / 2  # init and final share some luck
                    right = luck < skill
                    prediction = "7" if right else [None, "8", "9"][int(luck * 1000) % 3]
                    number = 0 if decode == "greedy" else sample
                    text = f"### {prediction}"
                    tail = [text, prediction, "7", right, not right and prediction is None, 6]
                    rows.append([benchmark, uid, stage, decode, number, *tail, 3 + item % 4])
    return pd.DataFrame(rows, columns=list(ITEM_COLUMNS))


@cache
def metrics_of(ks: tuple[int, ...], *drawn: Any) -> dict[str, float]:
    """The metrics of the items that these arguments draw."""
    return summary_metrics(synthetic_items(*drawn), ks)


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """Write a run directory; keyword arguments replace fields of its result.json."""

    def write(
        folder: Path,
        method: str = "coconut",
        seed: int = 0,
        benchmarks: tuple[str, ...] = ("chain",),
        stages: tuple[str, ...] = ("init", "final"),
        lift: float = 0.1,
        ks: tuple[int, ...] = KS,
        n_items: int = ITEMS,
        **fields: Any,
    ) -> Path:
        folder.mkdir(parents=True)
        drawn = (method, seed, tuple(benchmarks), tuple(stages), lift, n_items)
        items = synthetic_items(*drawn)
        items.to_parquet(folder / "items.parquet", index=False)
        result = {
            "schema": 1,
            "status": "completed",
            "run_id": f"{method}-{seed}",
            "protocol_id": "p1",
            "method": method,
            "data": "toy",
            "model": "tiny_50%",
            "seed": seed,
            "config": {"method": method, "seed": seed, "noise": {"name": "shared_mask"}},
            "init": {"id": "init0"},
            "provenance": {"version": "0.1.0", "git_commit": "a" * 40, "git_dirty": False},
            "timing": {},
            "metrics": dict(metrics_of(tuple(ks), *drawn)),
        }
        (folder / "result.json").write_text(json.dumps(result | fields), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def study(tmp_path: Path, write_run: Callable[..., Path]) -> Path:
    """Three methods, three seeds, two benchmarks; one method without an init stage."""
    root = tmp_path / "study"
    for method, lift, stages in (
        ("coconut_sft", 0.0, ("final",)),
        ("dropout_grpo", 0.15, ("init", "final")),
        ("gumbel_grpo", 0.05, ("init", "final")),
    ):
        for seed in range(3):
            folder = root / f"{method}-s{seed}"
            write_run(
                folder, method, seed, benchmarks=("chain", "chain_hard"), stages=stages, lift=lift
            )
    return root
