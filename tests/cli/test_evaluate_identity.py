"""A checkpoint that is not what its run says is refused, and one that computes no numbers fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from driver import QUICK, called, inside
from safetensors.torch import load_file, save_file

from latentbench.evaluate import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        where = (f"init.root={folder / 'inits'}", f"hydra.run.dir={folder / str(seed)}")
        assert inside(*QUICK, *where, f"seed={seed}", "rl.updates=1").code == 0
    return folder


def evaluated(checkpoint: Path, out: Path) -> tuple[int, str]:
    arguments = (f"checkpoint={checkpoint}", "eval=[arithmetic]", f"hydra.run.dir={out}")
    outcome = called(main, "evaluate", *arguments, "protocol.samples=2", "protocol.ks=[1,2]")
    assert "Traceback" not in outcome.err
    return outcome.code, outcome.err


def test_the_model_of_another_run_is_named(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "0", tmp_path / "run")
    assert evaluated(tmp_path / "run", tmp_path / "sound")[0] == 0
    shutil.rmtree(tmp_path / "run/model")
    shutil.copytree(runs / "1/model", tmp_path / "run/model")
    ids = [json.loads((runs / n / "result.json").read_text())["run_id"] for n in ("1", "0")]
    code, said = evaluated(tmp_path / "run", tmp_path / "out")
    assert code == 2 and f"is that of run {ids[0]}, its result.json that of run {ids[1]}" in said


def test_missing_tensors_and_nan_are_no_score(runs: Path, tmp_path: Path) -> None:
    """Also where the digest was taken out with them."""
    for name, said, code in (("half", "lacks 12 tensors", 2), ("nan", "not finite", 1)):
        folder = tmp_path / name
        shutil.copytree(runs / "0", folder)
        file, record = folder / "model/model.safetensors", folder / "model/latentbench.json"
        tensors = load_file(file)
        if name == "half":
            tensors = {k: v for k, v in tensors.items() if ".h.1." not in k}
        else:
            tensors["transformer.wpe.weight"][0] = float("nan")
        save_file(tensors, file, {"format": "pt"})
        content = json.loads(record.read_text())
        del content["weights"]
        record.write_text(json.dumps(content))
        ended, line = evaluated(folder, tmp_path / f"out-{name}")
        assert ended == code and said in line
        result = tmp_path / f"out-{name}/result.json"
        assert not result.exists() or json.loads(result.read_text())["status"] == "failed"


RECORD = "model/latentbench.json"
EDITS: dict[str, tuple[str, object]] = {
    "config": ("result.json", [1]),
    "init": ("result.json", 5),
    "seed": ("result.json", "x"),
    "method": ("result.json", ["x"]),
    "latents": (RECORD, -3),
    "template": (RECORD, [1]),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_record_of_another_shape_is_named(name: str, runs: Path, tmp_path: Path) -> None:
    file, value = EDITS[name]
    shutil.copytree(runs / "0", tmp_path / "run")
    record = tmp_path / "run" / file
    record.write_text(json.dumps(json.loads(record.read_text()) | {name: value}))
    code, said = evaluated(tmp_path / "run", tmp_path / "out")
    assert code == 2 and len(said.strip().splitlines()) == 1
    assert f"checkpoint={tmp_path / 'run'}" in said


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]
)
def test_small_files_beside_the_weights_are_those_saved(
    name: str, runs: Path, tmp_path: Path
) -> None:
    for content in ("3", "{}", None):
        folder = tmp_path / str(content)
        shutil.copytree(runs / "0", folder)
        file = folder / "model" / name
        assert file.is_file()
        file.unlink() if content is None else file.write_text(content)
        code, said = evaluated(folder, tmp_path / f"out{content}")
        assert code == 2 and len(said.strip().splitlines()) == 1, said
