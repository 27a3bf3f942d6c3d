"""What is loaded is what it claims to be: every tensor, by name and by content."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checks import make_policy, twin
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from latentbench.carrier.hidden import Hidden
from latentbench.config.sections import ModelConfig
from latentbench.errors import InputError, NotFinite
from latentbench.model.backbone import Backbone, _check_head, load, save
from latentbench.model.tokenizer import add_markers, character_tokenizer

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of others, whose head is a matrix of its own; nothing says what its weights were."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    tokenizer = character_tokenizer()
    markers = add_markers(tokenizer)
    model = twin("llama", vocabulary=len(tokenizer))
    save(Backbone(model, tokenizer, markers), folder, {"latents": 3}, "card")
    return folder


def loaded(folder: Path) -> Any:
    return load(str(folder), None, ModelConfig(), True, Hidden(), "checkpoint").model


def changed(saved: Path, folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """A copy with other tensors, and no digest that would say so first."""
    shutil.copytree(saved, folder)
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    record = json.loads((folder / "latentbench.json").read_text())
    del record["weights"]
    (folder / "latentbench.json").write_text(json.dumps(record))
    return folder


CHANGES: dict[str, tuple[Callable[[Tensors], Tensors], tuple[str, ...]]] = {
    "one block is missing": (
        lambda t: {k: v for k, v in t.items() if ".layers.1." not in k},
        ("lacks 9 tensors", "model.layers.1.input_layernorm.weight"),
    ),
    "the top of a deeper model": (
        lambda t: t | {k.replace(".1.", ".2."): v.clone() for k, v in t.items() if ".1." in k},
        ("beyond the model 9 tensors", "model.layers.2."),
    ),
    "every name has a prefix": (
        lambda t: {f"module.{k}": v for k, v in t.items()},
        ("lacks 21", "lm_head.weight", "beyond the model 21 tensors", "module.lm_head.weight"),
    ),
    "another prefix": (
        lambda t: {f"base_causallm.{k}": v for k, v in t.items()},
        ("base_causallm.lm_head.weight",),
    ),
    "an untied head is missing": (
        lambda t: {k: v for k, v in t.items() if k != "lm_head.weight"},
        ("lacks 1 tensor, first lm_head.weight",),
    ),
    "one tensor under another name": (
        lambda t: {k.replace("norm.weight", "norm.scale"): v for k, v in t.items()},
        ("norm.weight", "norm.scale"),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_tensors_are_all_there_and_no_others(name: str, saved: Path, tmp_path: Path) -> None:
    change, said = CHANGES[name]
    folder = changed(saved, tmp_path / "m", change)
    with pytest.raises(InputError) as error:
        loaded(folder)
    assert all(part in str(error.value) for part in (*said, f"checkpoint={folder}"))


def test_an_adapter_is_not_left_out(saved: Path, tmp_path: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        folder = tmp_path / name.partition(".")[0]
        shutil.copytree(saved, folder)
        (folder / name).write_text("{}")
        with pytest.raises(InputError, match="an adapter lies there"):
            loaded(folder)


def test_weights_are_known_by_their_content(saved: Path, tmp_path: Path) -> None:
    """Half of the file zeroed, one bit flipped, the file or the configuration of another model."""
    content = (saved / "model.safetensors").read_bytes()
    flipped = bytearray(content)
    flipped[-5] ^= 1
    half = content[: len(content) // 2]
    other = tmp_path / "other"
    twin("llama", seed=1, vocabulary=len(character_tokenizer()) + 3).save_pretrained(other)
    settings = json.loads((saved / "config.json").read_text())
    harms: dict[str, tuple[str, bytes]] = {
        "zeroed": ("model.safetensors", half + bytes(len(content) - len(half))),
        "flipped": ("model.safetensors", bytes(flipped)),
        "foreign": ("model.safetensors", (other / "model.safetensors").read_bytes()),
        "heads": ("config.json", json.dumps(settings | {"num_key_value_heads": 4}).encode()),
    }
    loaded(saved)
    for name, (file, written) in harms.items():
        folder = tmp_path / name
        shutil.copytree(saved, folder)
        (folder / file).write_bytes(written)
        with pytest.raises(InputError, match=r"its weights are not those that were saved there"):
            loaded(folder)


def test_numbers_are_finite_when_saved_and_when_loaded(saved: Path, tmp_path: Path) -> None:
    for value in (torch.nan, torch.inf):

        def harm(tensors: Tensors, value: float = value) -> Tensors:
            tensors["model.norm.weight"][3] = value
            return tensors

        folder = changed(saved, tmp_path / str(value), harm)
        with pytest.raises(NotFinite, match=r"model\.norm\.weight holds 1 numbers"):
            loaded(folder)
    model = twin("gpt2")
    with torch.no_grad():
        model.transformer.wpe.weight[0, 0] = torch.inf
    tokenizer = character_tokenizer()
    backbone = Backbone(model, tokenizer, add_markers(tokenizer))
    with pytest.raises(NotFinite, match="to be saved"):
        save(backbone, tmp_path / "never", {}, "card")
    assert not (tmp_path / "never").exists()


def test_a_file_that_others_may_read_is_read_by_others(saved: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in saved.iterdir()}
    probe = saved.parent / "probe"
    probe.touch()
    assert modes == {probe.stat().st_mode & 0o777}


def test_no_code_of_a_directory_is_run(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is anybody asked whether it may: there is no terminal where runs are started."""
    folder, mark = tmp_path / "m", tmp_path / "it_ran"
    shutil.copytree(saved, folder)
    settings = json.loads((folder / "config.json").read_text())
    places = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    settings |= {"model_type": "stranger", "auto_map": places}
    (folder / "config.json").write_text(json.dumps(settings))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer |= {"auto_map": {"AutoTokenizer": ["code.Slow", "code.Fast"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "code.py").write_text(f"open({str(mark)!r}, 'w').write('x')")
    record = json.loads((folder / "latentbench.json").read_text())
    del record["weights"], record["files"]
    (folder / "latentbench.json").write_text(json.dumps(record))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(InputError, match="no readable model"):
        loaded(folder)
    assert not mark.exists()


SCALED = {
    "gemma2": {"final_logit_softcapping": 5.0, "head_dim": 8},
    "granite": {"logits_scaling": 3.0},
    "cohere": {"logit_scale": 0.3},
}


@pytest.mark.parametrize("family", SCALED)
def test_logits_are_those_of_the_head_alone(family: str) -> None:
    """A soft cap or a scale would be missing in every law that is sampled from and scored."""
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 30}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    settings = AutoConfig.for_model(family, **shape, **heads, **ends, **SCALED[family])
    model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32).eval()
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_()
    with pytest.raises(InputError, match=r"checkpoint=x: its logits are not its head's alone"):
        _check_head(model, "checkpoint=x")


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_the_law_of_a_policy_is_the_models_own(family: str) -> None:
    model = twin(family)
    _check_head(model, "model")
    policy = make_policy(model)
    ids = torch.tensor([[5, 9, 11]])
    logits = model(input_ids=ids).logits[:, -1]
    logits[:, list(policy.forbidden)] = -torch.inf
    hidden = model.base_model(input_ids=ids).last_hidden_state[:, -1]
    expected = torch.log_softmax(logits, dim=-1)
    assert torch.allclose(policy.log_law(hidden), expected, atol=1e-6)
