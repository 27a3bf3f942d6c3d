"""Models from disk and hub: one model has one identity, and only the hub says what is absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checks import twin

from latentbench.carrier.hidden import Hidden
from latentbench.config.sections import ModelConfig
from latentbench.errors import InputError
from latentbench.model.adapters._tensors import find
from latentbench.model.backbone import load
from latentbench.model.tokenizer import MARKERS, character_tokenizer
from latentbench.model.weights import hub_file, metadata_of, weights_digest
from latentbench.runtime.parts import weights_fingerprint


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A GPT-2 of others: its vocabulary knows no latent markers."""
    tokenizer = character_tokenizer()
    folder = tmp_path / "plain"
    twin("gpt2", vocabulary=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def loaded(folder: Path) -> Any:
    return load(str(folder), None, ModelConfig(), False, Hidden(), "checkpoint").model


def test_a_model_without_markers_is_the_same_at_every_load(plain: Path) -> None:
    """Rows that the directory does not have follow from no global generator, and leave it alone."""
    first = loaded(plain)
    torch.manual_seed(7)
    expected = torch.random.get_rng_state()
    second = loaded(plain)
    assert torch.equal(torch.random.get_rng_state(), expected)
    rows = first.get_input_embeddings().weight
    assert len(rows) == len(character_tokenizer()) + len(MARKERS)
    assert torch.equal(rows, second.get_input_embeddings().weight)
    assert weights_fingerprint(first) == weights_fingerprint(second)


def test_the_configuration_belongs_to_the_weights(plain: Path) -> None:
    """Another number of heads makes another model of the same tensors; another writer does not."""
    file = plain / "config.json"
    settings = json.loads(file.read_text())
    before, model = weights_digest(str(plain), None), loaded(plain)
    file.write_text(json.dumps(settings | {"transformers_version": "0", "_name_or_path": "x"}))
    assert weights_digest(str(plain), None) == before
    assert weights_fingerprint(loaded(plain)) == weights_fingerprint(model)
    file.write_text(json.dumps(settings | {"n_head": 2}))
    assert weights_digest(str(plain), None) != before
    other = loaded(plain)
    assert torch.equal(other.lm_head.weight, model.lm_head.weight)
    assert weights_fingerprint(other) != weights_fingerprint(model)
    file.write_text("{")
    with pytest.raises(InputError, match=r"checkpoint=.*plain: its config.json cannot be read"):
        weights_digest(str(plain), None, "checkpoint")


# -- the hub ---------------------------------------------------------------------------------------


def hub_says(patch: pytest.MonkeyPatch, error: Exception, cached: Any = None) -> None:
    import huggingface_hub

    def download(*_args: Any, **_kwargs: Any) -> str:
        raise error

    patch.setattr(huggingface_hub, "hf_hub_download", download)
    patch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_args, **_kwargs: cached)


def answers() -> dict[str, Exception]:
    """What huggingface_hub raises, by what is the matter."""
    import httpx
    from huggingface_hub import errors

    response = httpx.Response(404, request=httpx.Request("HEAD", "https://hub/o/n"))
    return {
        "no such file": errors.RemoteEntryNotFoundError("404: no such entry", response=response),
        "no such repository": errors.RepositoryNotFoundError("404: no repo", response=response),
        "gated": errors.GatedRepoError("403: gated", response=response),
        "out of reach": errors.LocalEntryNotFoundError("check your connection"),
        "no id": errors.HFValidationError("not a repo id"),
        "no revision": errors.RevisionNotFoundError("404: no revision", response=response),
        "down": ConnectionError("refused"),
    }


@pytest.mark.parametrize("matter", answers())
def test_only_the_hubs_own_word_makes_a_file_absent(
    matter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else carrier, template and marker would silently be those of a model that says nothing."""
    hub_says(monkeypatch, answers()[matter])
    if matter == "no such file":
        assert hub_file("o/n", "x", None, "checkpoint=o/n") is None
        assert metadata_of("o/n", None, "checkpoint") == {}
        with pytest.raises(InputError, match="source=o/n: the hub has none of a, b there"):
            find("o/n", None, ["a", "b"])
        return
    for call in (lambda: metadata_of("o/n", None, "source"), lambda: find("o/n", None, ["a"])):
        with pytest.raises(InputError) as caught:
            call()
        line = str(caught.value)
        assert line.startswith("source=o/n: no such directory here, and not to be had from the hub")
        assert str(answers()[matter]).splitlines()[0][:60] in line and "\n" not in line


def test_offline_the_cache_remembers_what_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import _CACHED_NO_EXIST

    hub_says(monkeypatch, answers()["out of reach"], _CACHED_NO_EXIST)
    assert hub_file("o/n", "x", None, "checkpoint=o/n") is None
