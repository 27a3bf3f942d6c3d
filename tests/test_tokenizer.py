from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import PreTrainedTokenizerBase

from latentbench.data.arithmetic import Arithmetic
from latentbench.data.prontoqa_gen import ProntoqaGen
from latentbench.data.prosqa_gen import ProsqaGen
from latentbench.data.word_problems import WordProblems
from latentbench.errors import InputError
from latentbench.model.tokenizer import (
    MARKERS,
    add_markers,
    character_tokenizer,
    load_tokenizer,
    tokenizer_digest,
    word_tokenizer,
)

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
GPT2 = SHARED / "gpt2_bpe"
needs_gpt2 = pytest.mark.skipif(not GPT2.is_dir(), reason="the GPT-2 files are not here")

PRINTABLE = "\n" + "".join(map(chr, range(32, 127)))


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text)["input_ids"]  # type: ignore


def test_every_character_is_one_token() -> None:
    tokenizer = character_tokenizer()
    ids = ids_of(tokenizer, PRINTABLE)
    assert len(tokenizer) == len(PRINTABLE) + 3 == 99
    assert len(set(ids)) == len(ids) == len(PRINTABLE)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == PRINTABLE


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  a  b ",
        "1 , 2 . 3 ! n't 's",
        "\n\n",
        "3+4-9=<3+4=7><7-9=8>#8",
        "<|x|>",
        PRINTABLE,
    ],
)
def test_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = character_tokenizer()
    ids = ids_of(tokenizer, text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


def test_unknown_characters_and_special_tokens() -> None:
    tokenizer = character_tokenizer()
    assert ids_of(tokenizer, "\u00e9\t") == [tokenizer.unk_token_id] * 2
    assert ids_of(tokenizer, "<eos>") == [tokenizer.eos_token_id]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id) == (0, 1, 2)


def test_arithmetic_needs_no_unknown_token() -> None:
    tokenizer = load_tokenizer("character", None)
    for item in Arithmetic(n_train=50, n_validation=5, n_test=10).load().train:
        text = item.question + "".join(item.steps) + "#" + item.answer
        assert tokenizer.decode(ids_of(tokenizer, text)) == text


def pieces(text: str) -> list[str]:
    tokenizer = word_tokenizer()
    return [str(tokenizer.decode([token])) for token in ids_of(tokenizer, text)]


def test_words_of_the_generators_are_one_token_and_digits_stand_alone() -> None:
    assert pieces("Tom has 12 apples.") == ["Tom", " has", " ", "1", "2", " apples", "."]
    written = ["<<", *"5+13=18", ">>", "\n", "###", " ", "1", "8"]
    assert pieces("<<5+13=18>>\n### 18") == written
    assert pieces("Every gorpus is opaque.") == ["Every", " gorpus", " is", " opaque", "."]
    assert pieces(" has\n has") == [" has", "\n", " has"]


def test_other_words_fall_apart_from_the_left_the_longest_piece_first() -> None:
    assert pieces(" gorpuss") == [" gorpus", "s"]
    assert pieces(" xyz") == [" ", "x", "y", "z"]
    assert pieces("hash") == ["has", "h"]
    assert pieces("e" * 300) == ["e"] * 300


@pytest.mark.parametrize("text", ["", "  a  b ", "a\n b", "x " * 5, "<|x|> <<<", PRINTABLE])
def test_decoding_words_gives_the_text_back(text: str) -> None:
    tokenizer = word_tokenizer()
    assert tokenizer.decode(ids_of(tokenizer, text)) == text


@pytest.mark.parametrize(
    "task",
    [
        WordProblems(n_train=60, n_validation=5, n_test=10, operators="+-*/&", names=12),
        ProsqaGen(n_train=20, n_validation=5, n_test=10),
        ProntoqaGen(n_train=20, n_validation=5, n_test=10),
    ],
    ids=lambda task: task.name,
)
def test_generated_text_is_whole_words_and_comes_back_unchanged(task: Any) -> None:
    tokenizer = load_tokenizer("word", None)
    for item in task.load().train:
        for text in (item.question, *item.steps, item.answer):
            ids = ids_of(tokenizer, text)
            assert tokenizer.decode(ids) == text
            assert not any(len(piece) == 1 and piece.isalpha() for piece in pieces(text))


def test_a_saved_word_tokenizer_is_the_same(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    add_markers(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path), None)
    text = "Tom has 12 apples. gorpuss" + "".join(MARKERS) + " <<1+2=3>>\n"
    assert ids_of(again, text) == ids_of(tokenizer, text)
    assert tokenizer_digest(again) == tokenizer_digest(tokenizer)


def test_saving_and_loading_changes_nothing(tmp_path: Path) -> None:
    tokenizer = character_tokenizer()
    markers = add_markers(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path), None)
    text = PRINTABLE + "".join(MARKERS) + "  a , b"
    assert len(again) == len(tokenizer)
    assert ids_of(again, text) == ids_of(tokenizer, text)
    assert again.decode(ids_of(again, text)) == text
    assert add_markers(again) == markers
    assert (tmp_path / "tokenizer.json").is_file()


def test_markers_are_added_once_and_kept_whole() -> None:
    tokenizer = character_tokenizer()
    markers = add_markers(tokenizer)
    assert add_markers(tokenizer) == markers
    assert len(tokenizer) == 99 + 3
    assert (markers.start, markers.latent, markers.end) == (99, 100, 101)
    assert (markers.pad, markers.eos) == (0, 2)
    text = "1=<|start-latent|><|latent|><|latent|><|end-latent|>#3"
    ids = ids_of(tokenizer, text)
    assert ids[2:6] == [99, 100, 100, 101]
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == "1=#3"


def test_a_tokenizer_without_end_of_sequence_is_refused() -> None:
    tokenizer = character_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no end-of-sequence token"):
        add_markers(tokenizer)


@needs_gpt2
def test_the_original_gpt2_files() -> None:
    tokenizer = load_tokenizer(str(GPT2), None)
    assert len(tokenizer) == 50_257
    assert ids_of(tokenizer, "Hello world") == [15496, 995]
    assert tokenizer.eos_token_id == 50_256
    assert tokenizer.pad_token is None
    markers = add_markers(tokenizer)
    assert (markers.start, markers.latent, markers.end) == (50_257, 50_258, 50_259)
    assert markers.pad == markers.eos == 50_256


@needs_gpt2
def test_gsm8k_texts_decode_to_themselves() -> None:
    tokenizer = load_tokenizer(str(GPT2), None)
    with gzip.open(SHARED / "gsm8k" / "test.jsonl.gz", "rt", encoding="utf-8") as rows:
        texts = [json.loads(row)["question"] for row in rows]
    assert len(texts) == 1319
    assert tokenizer.batch_decode(tokenizer(texts)["input_ids"]) == texts


@needs_gpt2
def test_gpt2_saved_in_the_hub_layout(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(GPT2), None)
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path), None)
    assert len(again) == 50_257
    assert ids_of(again, "Two  eggs.\n### 1,018") == ids_of(tokenizer, "Two  eggs.\n### 1,018")


@needs_gpt2
@pytest.mark.parametrize("change", ["cut", "longer", "no JSON"])
def test_a_changed_gpt2_vocabulary_is_refused(tmp_path: Path, change: str) -> None:
    shutil.copyfile(GPT2 / "vocab.bpe", tmp_path / "vocab.bpe")
    vocabulary = json.loads((GPT2 / "encoder.json").read_text(encoding="utf-8"))
    if change == "cut":
        del vocabulary["\u0120world"]
    else:
        vocabulary["one too many"] = 50_257
    text = json.dumps(vocabulary)[: 1000 if change == "no JSON" else None]
    (tmp_path / "encoder.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_tokenizer(str(tmp_path), None)
    message = str(caught.value)
    assert message.startswith(f"model.tokenizer={tmp_path}: ")
    assert "encoder.json and vocab.bpe" in message and "\n" not in message


def test_directories_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no tokenizer"):
        load_tokenizer(str(tmp_path), None)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read") as caught:
        load_tokenizer(str(tmp_path), None)
    assert "\n" not in str(caught.value)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        load_tokenizer(str(tmp_path), None)
    with pytest.raises(InputError, match="no such directory"):
        load_tokenizer(str(tmp_path / "nowhere"), None)
    with pytest.raises(InputError, match="no such directory"):
        load_tokenizer("./nowhere", None)


def test_an_unreachable_hub_points_to_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def from_pretrained(name: str, **options: object) -> None:
        asked.append((name, options["revision"]))
        raise OSError("no route\nto the hub")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", from_pretrained)
    with pytest.raises(InputError) as caught:
        load_tokenizer("gpt2", "607a30d")
    message = str(caught.value)
    assert asked == [("gpt2", "607a30d")]
    assert "model.tokenizer=gpt2" in message and "model.tokenizer=<directory>" in message
    assert "\n" not in message
