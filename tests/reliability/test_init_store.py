"""The store of start models: built once, shared, carried on after a cut, honest about damage."""

import json
from pathlib import Path

import pytest
from driver import QUICK, inside, start, tree


def origin(folder: Path) -> str:
    return json.loads((folder / "result.json").read_text())["init"]["origin"]


def test_one_start_model_for_all_methods_and_seeds(tmp_path: Path) -> None:
    inits = f"init.root={tmp_path / 'inits'}"
    for name, override in (("a", "seed=1"), ("b", "method=temp_grpo"), ("c", "init.seed=5")):
        where = f"hydra.run.dir={tmp_path / name}"
        assert inside(*QUICK, inits, where, override, "rl.updates=1").code == 0
    assert [origin(tmp_path / name) for name in "abc"] == ["built", "reused", "built"]
    assert len(list((tmp_path / "inits").glob("*/init.json"))) == 2


@pytest.mark.slow
def test_two_processes_build_it_once(tmp_path: Path) -> None:
    inits = f"init.root={tmp_path / 'inits'}"
    programs = [
        start(*QUICK, inits, f"hydra.run.dir={tmp_path / str(n)}", f"seed={n}", cwd=tmp_path)
        for n in range(2)
    ]
    said = [program.communicate(timeout=300) for program in programs]
    assert [program.returncode for program in programs] == [0, 0], said
    assert sorted(origin(tmp_path / str(n)) for n in range(2)) == ["built", "reused"]
    assert len(list((tmp_path / "inits").glob("*/init.json"))) == 1


def test_a_damaged_start_model_is_named(tmp_path: Path) -> None:
    command = (*QUICK, f"init.root={tmp_path / 'inits'}", f"hydra.run.dir={tmp_path / 'run'}")
    assert inside(*command, "method=coconut").code == 0
    weights = next((tmp_path / "inits").glob("*/model/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    before = tree(tmp_path)
    outcome = inside(*command, f"hydra.run.dir={tmp_path / 'next'}")
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert "init.root=" in outcome.err and weights.parents[1].name in outcome.err
    assert "delete" in outcome.err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("form", ["run directory", "Hugging Face directory"])
def test_a_start_model_from_a_path(form: str, finished: Path, tmp_path: Path) -> None:
    path = finished if form == "run directory" else finished / "model"
    where = (f"init.root={tmp_path / 'inits'}", f"hydra.run.dir={tmp_path / 'run'}")
    outcome = inside(*QUICK, *where, f"init.path={path}", "rl.updates=1")
    assert outcome.code == 0, outcome
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    metrics = json.loads((finished / "result.json").read_text())["metrics"]
    assert result["init"]["origin"] == "path"
    assert result["metrics"]["init/arithmetic/pass@1"] == metrics["arithmetic/pass@1"]
    assert not (tmp_path / "inits").exists()


def test_a_start_model_of_another_shape_is_refused(finished: Path, tmp_path: Path) -> None:
    outcome = inside(
        *QUICK,
        f"init.path={finished}",
        "model.architecture.n_embd=32",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert "init.path=" in outcome.err and "n_embd" in outcome.err and "64" in outcome.err
    assert tree(tmp_path) == {}


def test_a_start_model_without_latents_is_refused(tmp_path: Path) -> None:
    """Latent RL on a model that never saw the latent markers."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from latentbench.model.tokenizer import character_tokenizer

    tokenizer = character_tokenizer()
    shape = {"n_layer": 3, "n_embd": 64, "n_head": 4, "n_positions": 256}
    settings = GPT2Config(
        **shape, vocab_size=len(tokenizer), activation_function="gelu_pytorch_tanh"
    )
    with torch.random.fork_rng():
        GPT2LMHeadModel(settings).save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    before = tree(tmp_path)
    outcome = inside(*QUICK, f"init.path={tmp_path / 'plain'}", f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.code == 2 and "<|latent|>" in outcome.err and "method=coconut" in outcome.err
    assert tree(tmp_path) == before


def test_a_harmed_file_is_refused(finished: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(finished / "model", tmp_path / "harmed")
    (tmp_path / "harmed" / "model.safetensors").write_bytes(b"no weights")
    before = tree(tmp_path)
    outcome = inside(
        *QUICK, f"init.path={tmp_path / 'harmed'}", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert f"init.path={tmp_path / 'harmed'}" in outcome.err
    assert tree(tmp_path) == before
