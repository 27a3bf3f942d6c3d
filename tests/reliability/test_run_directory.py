"""What a run leaves behind, read by a program that knows the contract and not latentbench."""

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from driver import QUICK, checkpoint, inside, tree

READER = """
import csv, json, sys
from pathlib import Path

import pandas as pd
from safetensors import safe_open

folder = Path(sys.argv[1])
assert not any(name.split(".")[0] in ("latentbench", "analysis") for name in sys.modules)
result = json.loads((folder / "result.json").read_text())
items = pd.read_parquet(folder / "items.parquet")
with (folder / "metrics.csv").open(newline="") as stream:
    rows = list(csv.DictReader(stream))
with safe_open(folder / "model" / "model.safetensors", framework="np") as weights:
    names = list(weights.keys())
print(json.dumps({
    "result": result,
    "dtypes": {name: str(kind) for name, kind in items.dtypes.items()},
    "rows": len(items),
    "groups": {"/".join(key): len(part) for key, part in items.groupby(["stage", "decode"])},
    "accuracy": {
        stage: float(part["correct"].mean())
        for stage, part in items[items["decode"] == "greedy"].groupby("stage")
    },
    "samples": sorted(int(n) for n in items.loc[items["decode"] == "sampled", "sample"].unique()),
    "items": sorted(items["item"].unique()),
    "metrics": list(rows[0]),
    "steps": [int(row["step"]) for row in rows],
    "weights": names,
}))
"""


@pytest.fixture(scope="module")
def seen(finished: Path) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", READER, str(finished)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_files(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} - {".lock"} == {
        *("result.json", "items.parquet", "metrics.csv", "checkpoints", "model", ".hydra"),
        *("run.log", "latents.parquet", "questions.parquet"),
    }
    assert {path.name for path in (finished / ".hydra").iterdir()} == {
        *("config.yaml", "hydra.yaml", "overrides.yaml")
    }
    assert [path.name for path in (finished / "checkpoints").iterdir()] == ["last.ckpt"]
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= {
        path.name for path in (finished / "model").iterdir()
    }


def test_result(seen: dict) -> None:
    result = seen["result"]
    types = {
        **{"schema": int, "status": str, "run_id": str, "protocol_id": str, "method": str},
        **{"inputs": str, "data": str, "model": str, "seed": int, "config": dict, "init": dict},
        **{"provenance": dict, "timing": dict, "metrics": dict, "objective": float, "port": dict},
        **{"benchmarks": dict, "remarks": list, "files": dict},
    }
    assert {name: type(result[name]) for name in types} == types
    assert set(result) == set(types)
    assert result["schema"] == 1 and result["status"] == "completed"
    assert (result["method"], result["data"], result["model"]) == (
        *("dropout_grpo", "arithmetic"),
        "tiny",
    )
    names = {f"{stage}arithmetic/{m}" for stage in ("", "init/") for m in ("pass@1", "maj@2")}
    assert names <= set(result["metrics"])
    assert all(isinstance(value, float) for value in result["metrics"].values())
    assert result["metrics"]["arithmetic/pass@1"] == pytest.approx(seen["accuracy"]["final"])
    assert result["metrics"]["init/arithmetic/pass@1"] == pytest.approx(seen["accuracy"]["init"])
    assert result["objective"] == result["metrics"]["arithmetic/pass@1"]
    assert result["init"]["origin"] in ("built", "reused") and result["init"]["id"]
    assert result["config"]["rl"]["group_size"] == 4
    assert set(result["provenance"]["packages"]) >= {"torch", "lightning", "transformers"}
    assert len(result["provenance"]["data"]["digest"]) == 64
    tested = result["benchmarks"]["arithmetic"]
    assert (tested["items"], tested["grader"]) == (12, "exact_number")
    assert tested["provenance"] == result["provenance"]["data"]


def test_items(seen: dict) -> None:
    text = ("object", "str", "string")
    expected = {
        **dict.fromkeys(("benchmark", "item", "stage", "decode"), text),
        **dict.fromkeys(("answer_text", "prediction", "gold"), text),
        **dict.fromkeys(("sample", "latent_steps", "answer_tokens"), ("int64",)),
        **dict.fromkeys(("correct", "truncated", "grader_failed"), ("bool",)),
    }
    assert set(seen["dtypes"]) == set(expected)
    assert all(kind in expected[name] for name, kind in seen["dtypes"].items()), seen["dtypes"]
    count, samples = 12, 2
    assert seen["rows"] == count * (1 + samples) * 2
    assert seen["groups"] == {
        **{f"{stage}/greedy": count for stage in ("init", "final")},
        **{f"{stage}/sampled": count * samples for stage in ("init", "final")},
    }
    assert seen["samples"] == [0, 1] and len(seen["items"]) == count


def test_metrics(seen: dict) -> None:
    assert {
        *("step", "train/reward_mean", "train/loss", "train/grad_norm", "train/replay_gap"),
        *("train/zero_variance_groups", "train/ratio_clipped", "train/answer_entropy"),
        "train/skipped_updates",
        *("latent/dispersion", "perf/rollouts_per_s", "perf/tokens_per_s", "perf/peak_memory_mb"),
    } <= set(seen["metrics"])
    assert seen["steps"] == [1, 2, 3, 4]


def test_hydra_record(finished: Path) -> None:
    import yaml

    folder = finished / ".hydra"
    overrides = yaml.safe_load((folder / "overrides.yaml").read_text())
    assert "experiment=quick" in overrides
    assert yaml.safe_load((folder / "config.yaml").read_text())["rl"]["updates"] == 4
    hydra = yaml.safe_load((folder / "hydra.yaml").read_text())
    assert hydra["hydra"]["runtime"]["choices"]["method"] == "dropout_grpo"


def test_model_is_the_checkpoint(finished: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(finished / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(finished / "model")
    assert tokenizer("3+4=")["input_ids"] and "<|latent|>" in tokenizer.get_vocab()
    saved = checkpoint(finished)["state_dict"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved[f"model.{name}"]), name
    card = (finished / "model" / "README.md").read_text()
    assert "arithmetic/pass@1" in card and "dropout_grpo" in card


def test_a_malicious_checkpoint_is_refused(tmp_path: Path) -> None:
    import pickle

    import torch

    from latentbench.runtime.checkpoints import AtomicCheckpointIO

    class Attack:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "harm",))

    torch.save({"x": Attack()}, tmp_path / "bad.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "harm").exists()


def test_completed_is_not_run_again(finished: Path, quick) -> None:
    before = tree(finished)
    outcome = quick(finished)
    assert outcome.code == 0
    assert "pass@1 (greedy)" in outcome.out and "already completed" in outcome.out
    assert "RL" not in outcome.out and "SFT" not in outcome.out
    assert tree(finished) == before


def test_the_last_line_names_the_directory(tmp_path: Path, quick) -> None:
    outcome = quick(tmp_path / "run", "rl.updates=1")
    assert outcome.out.strip().splitlines()[-1].endswith(str(tmp_path / "run"))
    assert outcome.err == ""
    assert "Loading weights" not in outcome.out and "it/s" not in outcome.out


def test_sft_is_a_run_of_its_own(tmp_path: Path) -> None:
    where = (f"init.root={tmp_path / 'inits'}", f"hydra.run.dir={tmp_path / 'run'}")
    assert inside(*QUICK, "method=no_cot", *where).code == 0
    with (tmp_path / "run" / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == list(range(1, 41))
    assert checkpoint(tmp_path / "run")["latentbench"]["update"] == 40
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert not any(name.startswith("init/") for name in result["metrics"])


def test_a_failure_is_recorded(tmp_path: Path, quick, monkeypatch: pytest.MonkeyPatch) -> None:
    from latentbench.training.rl import RlModule

    original = RlModule.training_step

    def failing(self: RlModule, *rest) -> None:
        original(self, *rest)
        if self.update == 3:
            raise RuntimeError("the GPU fell off the bus")

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RlModule, "training_step", failing)
        with pytest.raises(RuntimeError, match="fell off"):  # a traceback and exit code 1
            quick(folder, "trainer.checkpoint_every=1")
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "failed"
    assert result["error"] == "RuntimeError: the GPU fell off the bus"
    assert checkpoint(folder)["latentbench"]["update"] == 2
    assert quick(folder, "trainer.checkpoint_every=1").code == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "completed" and "error" not in result


def test_gradients_that_stay_infinite_end_the_run(
    tmp_path: Path, quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from latentbench.policy_loss.clipped import Clipped
    from latentbench.records import LossOutput

    original = Clipped.__call__

    def broken(self: Clipped, batch) -> LossOutput:
        output = original(self, batch)
        return LossOutput(output.loss * torch.inf, output.sums)

    monkeypatch.setattr(Clipped, "__call__", broken)
    folder = tmp_path / "run"
    outcome = quick(folder, "rl.updates=12", "rl.prompts=16", "trainer.checkpoint_every=1")
    assert outcome.code == 1 and "rl.lr" in outcome.err and len(outcome.err.splitlines()) < 8
    assert json.loads((folder / "result.json").read_text())["status"] == "failed"
    weights = checkpoint(folder)["state_dict"].values()
    assert all(bool(torch.isfinite(value).all()) for value in weights)


def test_every_item_has_its_question(finished: Path) -> None:
    """questions.parquet holds each item of items.parquet once, under the uid of its text."""
    items = pd.read_parquet(finished / "items.parquet")
    asked = pd.read_parquet(finished / "questions.parquet")
    assert list(asked["item"]) == list(items["item"].unique())
    for item, question in zip(asked["item"], asked["question"], strict=True):
        digest = hashlib.blake2b(question.encode(), digest_size=8).digest()
        assert item == f"{int.from_bytes(digest, 'little') >> 1:016x}"
