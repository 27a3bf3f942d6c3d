"""GSM8K-Aug for training and validation, GSM8K for test: from local files or from the hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from latentbench.data import DataSet
from latentbench.data._files import iterate_rows, locate, unpack
from latentbench.data._overlap import check_disjoint, normalise, splits_digest
from latentbench.data._published import (
    OTHER_ANSWER,
    Edition,
    File,
    HubSplit,
    read_file,
    read_hub,
    refuse_repeats,
    tell_conflicts,
    without_repeats,
)
from latentbench.data._rows import decode, make_item, text, texts
from latentbench.errors import InputError, shorten
from latentbench.records import SPLITS, Item, Splits

FULL_TRAIN = "gsm8k_aug/train.txt"
REDUCED_TRAIN = ("gsm8k_aug/train_no_aug_formula.txt", "gsm8k_aug/train_part3000.txt")
WORDS_TRAIN = "gsm8k_aug/train_no_aug_nl.txt"
VALIDATION = "gsm8k_aug/valid.txt"
TEST = "gsm8k/test.jsonl"

FULL_ROWS = 385_620
VALIDATION_ROWS = 500
TEST_ROWS = 1319
# Training rows of the hub sets that we know.
_HUB_ROWS = {"whynlp/gsm8k-aug": FULL_ROWS}

_STEP = re.compile(r"<<[^\n]*?>>")
_BETWEEN_STEPS = re.compile(r"(?<=>>)\s+(?=<<)")
# The file with steps in words has lost its line breaks: a sentence is a step.
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_ANSWER_MARK = "####"
_LAYOUT = f"{FULL_TRAIN} (or {' and '.join(REDUCED_TRAIN)}), {VALIDATION} and {TEST}"


def parse_line(row: str, where: str, words: bool = False) -> Item:
    """One row `question||<<step>> <<step>> #### answer`; a row without steps is legal.

    Steps are parted at the blanks between `>>` and `<<`; with `words` the text before the answer
    is parted into sentences. Raises InputError, which begins with `where`.
    """
    question, bars, rest = row.partition("||")
    if not bars or "||" in rest:
        raise InputError(
            f"{where}: {'no' if not bars else 'more than one'} '||' in {shorten(row)}; rows read "
            "'question||<<steps>> #### answer'"
        )
    worked, answer = _split_answer(rest, where)
    worked = worked.strip()
    if words:
        if _STEP.match(worked):
            raise InputError(
                f"{where}: steps are formulas: {shorten(worked)}; data.steps=words takes a file "
                f"such as {WORDS_TRAIN}"
            )
        return _item(question, _BETWEEN_SENTENCES.split(worked) if worked else [], answer, where)
    if ">><<" in worked:
        raise InputError(
            f"{where}: two steps without a blank between them: {shorten(worked)}; write "
            "'<<...>> <<...>>'"
        )
    if worked and not _STEP.search(worked):
        raise InputError(
            f"{where}: steps in words, not in <<...>>: {shorten(worked)}; use the formula "
            "form of the file, or data.steps=words"
        )
    return _item(question, _BETWEEN_STEPS.split(worked) if worked else [], answer, where)


def parse_json(row: str, where: str, words: bool = False) -> Item:
    """One row of GSM8K: an object with a question and a worked answer that ends in `#### n`.

    Steps are the `<<...>>` notes of the worked answer (18 test rows have none) or, with `words`,
    its lines without these notes. Raises InputError.
    """
    return _from_record(decode(row, where), where, words)


def _from_record(record: Mapping[str, Any], where: str, words: bool = False) -> Item:
    question, worked = (text(record, where, name) for name in ("question", "answer"))
    body, answer = _split_answer(worked, where)
    if words:
        lines = (_STEP.sub("", line).strip() for line in body.split("\n"))
        return _item(question, [line for line in lines if line], answer, where)
    return _item(question, _STEP.findall(body), answer, where)


def _from_aug_record(record: Mapping[str, Any], where: str) -> Item:
    question, answer = (text(record, where, name) for name in ("question", "answer"))
    return _item(question, texts(record, where, "steps"), answer, where)


def _question_in_words(row: str, where: str) -> Item:
    """A validation row for steps in words: its published steps are formulas, so it keeps none."""
    item = parse_line(row, where)
    return Item(item.question, (), item.answer)


def _questions(read: Sequence[Item | None]) -> list[Item]:
    """The rows as items: every row of this family is a question."""
    return [item for item in read if item is not None]


def _split_answer(worked: str, where: str) -> tuple[str, str]:
    body, mark, answer = worked.partition(_ANSWER_MARK)
    if not mark or "#" in answer:
        raise InputError(
            f"{where}: {'no' if not mark else 'more than one'} '{_ANSWER_MARK}' in "
            f"{shorten(worked)}; rows end in '{_ANSWER_MARK} answer'"
        )
    return body, answer


def _item(question: str, steps: Iterable[str], answer: str, where: str) -> Item:
    return make_item(question, steps, answer.replace(",", ""), where)


_ICOT = "da03/Internalize_CoT_Step_by_Step @ c2e3891d8d577beeaff03fa3b076d1e4db96cfe8"
_IMPLICIT = "da03/implicit_chain_of_thought"
_OPENAI = "openai/grade-school-math @ 3101c7d5072418e28b9008a6636bde82a006892c"


def _file(
    name: str, split: str, origin: str, rows: int, sha256: str | None, words: bool = False
) -> File:
    parse = parse_json if name.endswith(".jsonl") else partial(parse_line, words=words)
    return File(name, split, origin, parse, (Edition(rows, sha256),), rows=iterate_rows)


# Every published file of this family; which of them are read is a matter of the options.
FILES = (
    _file(FULL_TRAIN, "train", f"{_ICOT} : data/gsm8k/train.txt", FULL_ROWS, None),
    _file(
        REDUCED_TRAIN[0],
        "train",
        f"{_IMPLICIT} @ a5f3eb98ef1dfe4c4f80d9433a389063f765b254 : "
        "data/math_scaffolding_formula/src1_train.txt",
        6973,
        "72906dc05545c6e6620c5a70f31f058959e730be4c9cd2965311280f5f7a57a9",
    ),
    _file(
        REDUCED_TRAIN[1],
        "train",
        "tsrigo/annotated-coconut-pytorch @ 0273998328e563a5d83ecefebd8e71c17677e82b : "
        "data/gsm8k/middletrain.txt",
        3000,
        "61b549ae8a564b377f570a01a20c15c72a594604cd6ce51ce54bbc071430c27f",
    ),
    _file(
        WORDS_TRAIN,
        "train",
        f"{_IMPLICIT} @ 51027999b2780c53adc9cb92bd36a96dab84560c : data/gsm8k/train_no_aug.txt",
        6973,
        "d4be3efa9c83b45cd7d31ba70968dd94c3b6c287d1ae2cfd42e820637ff7b506",
        words=True,
    ),
    _file(
        "gsm8k/train.jsonl",
        "train",
        f"{_OPENAI} : grade_school_math/data/train.jsonl",
        7473,
        "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
    ),
    _file(
        VALIDATION,
        "validation",
        f"{_ICOT} : data/gsm8k/valid.txt",
        VALIDATION_ROWS,
        "04f9bddfe8ac4846571b1e2b612b289c95770b5012fdb34cc36a597b041afb87",
    ),
    _file(
        "gsm8k_aug/test.txt",
        "test",
        f"{_ICOT} : data/gsm8k/test.txt",
        TEST_ROWS,
        "e464efa2713fbcf423bdbfb482c543a6a086188c3d97c294b1d19a70c2a515e8",
    ),
    _file(
        TEST,
        "test",
        f"{_OPENAI} : grade_school_math/data/test.jsonl",
        TEST_ROWS,
        "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
    ),
)


@dataclass(frozen=True)
class Gsm8k(DataSet):
    """Grade-school maths in the layout of the official Coconut code.

    With `root`: files below that directory, plain or `.gz`; the full training file when it is
    there, else the two published parts of it, which make 9,915 rows and are not the 385,620-row
    set of the papers; `train_files` (relative to `root`) overrides the choice. Without: the hub.
    Training rows may be anybody's own. Validation and test must be the published files, or have a
    digest that `sha256` lists, and no question twice; on the hub they must have the published
    number of rows.
    A training question that stood before, in this file or an earlier one, is dropped; other rows
    stay as published, also those without steps or whose last step is not the answer.
    `drop_overlap` removes training rows whose question is in validation or test, which is
    otherwise an error. `steps=words` takes the natural-language steps: sentences of a text file,
    lines of a `.jsonl` file; validation rows, whose file has formulas alone, then have no steps.
    The provenance names the published edition of each file, or says `unknown`, and the commit that
    was read from the hub: no commit of the GSM8K-Aug mirrors is known to us, so their default is
    the branch `main`, which can move. Raises InputError for bad knobs, files and rows.
    """

    name: str = "gsm8k"
    root: str | None = None
    train_files: list[str] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)
    drop_overlap: bool = False
    steps: str = "formula"
    aug_hub: str = "whynlp/gsm8k-aug"
    aug_revision: str = "main"
    words_hub: str = "whynlp/gsm8k-aug-nl"
    words_revision: str = "main"
    test_hub: str = "openai/gsm8k"
    test_config: str = "main"
    test_revision: str = "cc7b047b6e5bb11b4f1af84efc572db110a51b3c"

    grader: ClassVar[str | None] = "exact_number"
    files: ClassVar[tuple[File, ...]] = FILES

    def __post_init__(self) -> None:
        if self.steps not in ("formula", "words"):
            raise InputError(f"data.steps={self.steps}: choose formula or words")
        if self.train_files and self.root is None:
            raise InputError(
                f"data.train_files={list(self.train_files)}: needs data.root=<directory>, to which "
                "the names are relative"
            )
        for name in self.train_files:
            if Path(name).is_absolute():
                raise InputError(f"data.train_files: {name} must be relative to data.root")
        if self.sha256 and self.root is None:
            raise InputError(
                f"data.sha256={list(self.sha256)}: is of files; give their data.root=<directory>"
            )

    def load(self, splits: Collection[str] = SPLITS) -> Splits:
        """The splits asked for, the others empty; the provenance has their files or revisions, row
        counts and digests."""
        # What overlaps is only known with all of them.
        read = SPLITS if self.drop_overlap and "train" in splits else splits
        items, sources, names = (
            self._from_hub(read) if self.root is None else self._from_files(read)
        )
        train, repeated, conflicting = without_repeats(items["train"])
        tell_conflicts(f"data={self.name}", conflicting)
        items["train"] = self._without_overlap(train, items["validation"], items["test"])
        chosen = {split: items[split] if split in splits else [] for split in SPLITS}
        loaded = Splits(chosen["train"], chosen["validation"], chosen["test"])
        way_out = "remove them from one; data.drop_overlap=true does so for training rows"
        check_disjoint(loaded, names, way_out)
        provenance = {
            **sources,
            "dropped": {
                "repeated": repeated,
                OTHER_ANSWER: len(conflicting),
                "overlap": len(train) - len(items["train"]),
            },
            "counts": {split: len(getattr(loaded, split)) for split in SPLITS},
            "digest": splits_digest(loaded),
        }
        return replace(loaded, provenance=provenance)

    def place_of(self, item: Item) -> str | None:
        """`file:row` of an item that was read from files: looked up when it is to be complained
        about, not kept for every row."""
        if self.root is None:
            return None
        root = Path(self.root).expanduser()
        for name in (*self._choose(root), VALIDATION, TEST):
            path = locate(root, name)
            for number, row in iterate_rows(unpack(path), path) if path else ():
                if self._parser(name)(row, f"{path}:{number}") == item:
                    return f"{path}:{number}"
        return None

    def _without_overlap(
        self, train: list[Item], validation: Sequence[Item], test: Sequence[Item]
    ) -> list[Item]:
        if not self.drop_overlap or not train:
            return train
        held_out = {normalise(item.question) for part in (validation, test) for item in part}
        kept = [item for item in train if normalise(item.question) not in held_out]
        if not kept:
            raise InputError(
                "data.drop_overlap=true: every training question is in validation or test; name "
                "other training rows"
            )
        return kept

    def _from_files(
        self, splits: Collection[str]
    ) -> tuple[dict[str, list[Item]], dict[str, Any], dict[str, str]]:
        root = Path(str(self.root)).expanduser()
        if not root.is_dir():
            raise InputError(f"data.root={self.root}: no such directory; it should hold {_LAYOUT}")
        chosen = {"train": self._choose(root), "validation": [VALIDATION], "test": [TEST]}
        items: dict[str, list[Item]] = {split: [] for split in SPLITS}
        files: dict[str, dict[str, Any]] = {}
        for split in splits:
            for name in chosen[split]:
                rows, files[name] = self._read(root, name, split)
                items[split] += rows
        sources: dict[str, Any] = {"source": "files", "files": files}
        if "train" in splits:
            sources["train"] = chosen["train"]
            parts = {
                REDUCED_TRAIN: "two published parts of GSM8K-Aug",
                (WORDS_TRAIN,): "GSM8K alone",
            }
            if part := parts.get(tuple(chosen["train"])):
                sources["remark"] = (
                    f"training rows are {part}, not the {FULL_ROWS} rows of GSM8K-Aug"
                )
        return items, sources, {split: ", ".join(names) for split, names in chosen.items()}

    def _choose(self, root: Path) -> list[str]:
        """The training files: those asked for, else the full one, else the parts in its place."""
        if self.train_files:
            return list(self.train_files)
        if self.steps == "words":
            return [WORDS_TRAIN]
        return [FULL_TRAIN] if locate(root, FULL_TRAIN) else list(REDUCED_TRAIN)

    def _from_hub(
        self, splits: Collection[str]
    ) -> tuple[dict[str, list[Item]], dict[str, Any], dict[str, str]]:
        words = self.steps == "words"
        aug = (self.aug_hub, self.aug_revision, "data.aug_revision")
        if words:
            aug = (self.words_hub, self.words_revision, "data.words_revision")
        test = (self.test_hub, self.test_revision, "data.test_revision")
        parse, rows = partial(_from_record, words=words), _HUB_ROWS.get(aug[0])
        sources = (
            (*aug, HubSplit("train", _from_aug_record, "train", rows)),
            (*aug, HubSplit("validation", _from_aug_record, "validation", VALIDATION_ROWS)),
            (*test, HubSplit("test", parse, "test", TEST_ROWS, self.test_config)),
        )
        items: dict[str, list[Item]] = {split: [] for split in SPLITS}
        files: dict[str, dict[str, Any]] = {}
        names: dict[str, str] = {}
        for hub, revision, key, part in sources:
            if part.split in splits:
                read, label, entry = read_hub(part, hub, revision, key, _LAYOUT)
                items[part.split] = _questions(read)
                if part.split != "train":
                    refuse_repeats(items[part.split], label)
                files[label], names[part.split] = entry, label
        return items, {"source": "hub", "files": files}, names

    def _read(self, root: Path, name: str, split: str) -> tuple[list[Item], dict[str, Any]]:
        path = locate(root, name)
        if path is None:
            raise InputError(
                f"{root / name}: no such file, nor {name}.gz; data.root holds {_LAYOUT}"
            )
        plain = name.removesuffix(".gz")
        parse = self._parser(name)
        own = File(plain, split, "data.train_files", parse, rows=iterate_rows)
        file = replace(next((known for known in FILES if known.name == plain), own), parse=parse)
        read, entry = read_file(file, path, self.name, None if split == "train" else self.sha256)
        items = _questions(read)
        if split != "train":
            refuse_repeats(items, str(path))
        return items, entry

    def _parser(self, name: str) -> Callable[[str, str], Item]:
        words = self.steps == "words"
        if name.removesuffix(".gz").endswith(".jsonl"):
            return partial(parse_json, words=words)
        if words and name == VALIDATION:
            return _question_in_words
        return partial(parse_line, words=words)
