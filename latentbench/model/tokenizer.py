"""Tokenizers: characters, words, GPT-2 from its original files, local ones, the hub's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentbench.data._words import WORDS
from latentbench.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

CHARACTER = "character"
WORD = "word"
MARKERS = ("<|start-latent|>", "<|latent|>", "<|end-latent|>")

_PAD, _UNKNOWN, _EOS = _SPECIAL = ("<pad>", "<unk>", "<eos>")
_CHARACTERS = ("\n", *map(chr, range(0x20, 0x7F)))
_NOTATION = ("<<", ">>", "###")
# Beyond it WordPiece takes a word for unknown; its own default is 100.
_LONGEST_WORD = 100_000
_GPT2_SIZE = 50_257
_OPENAI_FILES = ("encoder.json", "vocab.bpe")
_HF_FILES = ("tokenizer.json", "tokenizer_config.json", "config.json")


@dataclass(frozen=True)
class Markers:
    """The token ids that the latent layout needs: around and in place of the latent steps."""

    start: int
    latent: int
    end: int
    pad: int
    eos: int


def character_tokenizer() -> PreTrainedTokenizerFast:
    """One token per printable ASCII character or line feed; everything else is `<unk>`.

    Decoding gives the text back unchanged. The texts `<pad>`, `<unk>` and `<eos>` are read as the
    tokens of that name.
    """
    from tokenizers import models

    vocabulary = _numbered([*_SPECIAL, *_CHARACTERS])
    return _own(models.WordLevel(vocabulary, unk_token=_UNKNOWN), r"[\s\S]")


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of this project's generators; any other word falls apart into such pieces
    and characters, from the left and the longest first.

    A word takes the blank before it along, as in GPT-2. Digits stand one by one, `<<`, `>>` and
    `###` are whole. For the rest as `character_tokenizer`.
    """
    from tokenizers import models

    words = [form for word in WORDS for form in (word, f" {word}")]
    model = models.WordPiece(
        _numbered([*_SPECIAL, *_CHARACTERS, *_NOTATION, *words]),
        unk_token=_UNKNOWN,
        continuing_subword_prefix="",
        max_input_chars_per_word=_LONGEST_WORD,
    )
    return _own(model, rf" ?[A-Za-z]+|{'|'.join(_NOTATION)}|[\s\S]")


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    return {token: place for place, token in enumerate(dict.fromkeys(tokens))}


def _own(model: Any, pieces: str) -> PreTrainedTokenizerFast:
    """A tokenizer that cuts text into `pieces` (a pattern) and joins tokens without anything."""
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pieces), "isolated")  # type: ignore
    backend.decoder = decoders.Fuse()  # type: ignore
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        eos_token=_EOS,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(path_or_id: str, revision: str | None) -> PreTrainedTokenizerBase:
    """`character`, `word`, a local directory (Hugging Face or OpenAI GPT-2 layout) or a hub id.

    `revision` is for the hub alone. Raises InputError for a directory without a tokenizer and for
    a hub id that cannot be had.
    """
    if path_or_id == CHARACTER:
        return character_tokenizer()
    if path_or_id == WORD:
        return word_tokenizer()
    directory = Path(path_or_id).expanduser()
    if directory.is_dir():
        return _from_directory(directory)
    if directory.is_absolute() or path_or_id.startswith((".", "~")):
        raise InputError(
            f"model.tokenizer={path_or_id}: no such directory; give one with "
            "tokenizer files, or a hub id"
        )
    return _from_hub(path_or_id, revision)


def add_markers(tokenizer: PreTrainedTokenizerBase) -> Markers:
    """Add the three latent markers as special tokens where absent and return all ids needed.

    Changes `tokenizer`; a second call changes nothing. Without a pad token the end-of-sequence
    token pads. Raises InputError for a tokenizer without an end-of-sequence token.
    """
    from transformers import AddedToken

    if tokenizer.eos_token_id is None:
        raise InputError(
            f"model.tokenizer={tokenizer.name_or_path}: has no end-of-sequence token; save "
            "one that has (tokenizer.eos_token)"
        )
    # `special` keeps them whole in every text and lets decoding skip them
    added = [AddedToken(marker, special=True, normalized=False) for marker in MARKERS]
    tokenizer.add_tokens(added, special_tokens=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokens = [*MARKERS, tokenizer.pad_token, tokenizer.eos_token]
    ids = tokenizer.convert_tokens_to_ids([str(token) for token in tokens])
    assert isinstance(ids, list)
    return Markers(*ids)


def tokenizer_digest(tokenizer: Any) -> str:
    """An identity of what a tokenizer does, wherever it lies: vocabulary, merges, special ids."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else type(tokenizer).__name__
    if isinstance(rules, dict):
        for passing in ("truncation", "padding"):  # the last call's, not the tokenizer's own
            rules.pop(passing, None)
    special = {
        name: getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "unk")
    }
    content = [rules, sorted(tokenizer.get_vocab().items()), special]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _from_directory(directory: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    if all((directory / name).is_file() for name in _OPENAI_FILES):
        return _from_openai(directory)
    if not any((directory / name).is_file() for name in _HF_FILES):
        raise InputError(
            f"model.tokenizer={directory}: holds no tokenizer; expected tokenizer.json, or "
            f"{' and '.join(_OPENAI_FILES)}"
        )
    try:
        return AutoTokenizer.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the tokenizers library raises plain Exception
        raise InputError(
            f"model.tokenizer={directory}: cannot be read ({_first_line(error)}); write it with "
            "tokenizer.save_pretrained(<directory>)"
        ) from error


def _from_openai(directory: Path) -> PreTrainedTokenizerBase:
    from transformers import GPT2Tokenizer

    encoder, merges = (str(directory / name) for name in _OPENAI_FILES)
    try:
        tokenizer = GPT2Tokenizer(vocab=encoder, merges=merges)
    except Exception as error:  # the tokenizers library raises plain Exception
        raise InputError(
            f"model.tokenizer={directory}: cannot be read ({_first_line(error)}); copy "
            f"{' and '.join(_OPENAI_FILES)} again"
        ) from error
    # A renamed keyword is ignored silently and leaves a tokenizer of one token.
    if len(tokenizer) != _GPT2_SIZE:
        raise InputError(
            f"model.tokenizer={directory}: {len(tokenizer)} tokens read, GPT-2 has {_GPT2_SIZE}; "
            f"copy {' and '.join(_OPENAI_FILES)} again"
        )
    return tokenizer


def _from_hub(hub_id: str, revision: str | None) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            hub_id, revision=revision or "main", trust_remote_code=False
        )
    except Exception as error:
        # No common base class: offline, refused, gated and malformed each raise their own.
        raise InputError(
            f"model.tokenizer={hub_id}: cannot be had from the hub ({_first_line(error)}); use a "
            f"local directory: model.tokenizer=<directory>, or model.tokenizer={CHARACTER}"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:100]}" if lines else type(error).__name__
