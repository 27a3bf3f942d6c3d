"""GSM8K-Aug for training and validation, GSM8K for test: from local files or from the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from latentbench.data._files import digest, iterate_rows, locate, unpack
from latentbench.data._overlap import SPLITS, check_disjoint, normalise, splits_digest
from latentbench.errors import InputError, shorten
from latentbench.records import Item, Splits, Template

FULL_TRAIN = "gsm8k_aug/train.txt"
REDUCED_TRAIN = ("gsm8k_aug/train_no_aug_formula.txt", "gsm8k_aug/train_part3000.txt")
VALIDATION = "gsm8k_aug/valid.txt"
TEST = "gsm8k/test.jsonl"

FULL_ROWS = 385_620

_STEP = re.compile(r"<<[^\n]*?>>")
_BETWEEN_STEPS = re.compile(r"(?<=>>)\s+(?=<<)")
_ANSWER_MARK = "####"
_LAYOUT = f"{FULL_TRAIN} (or {' and '.join(REDUCED_TRAIN)}), {VALIDATION} and {TEST}"


def parse_line(text: str, where: str) -> Item:
    """One row `question||<<step>> <<step>> #### answer`; a row without steps is legal.

    Steps are parted at the blanks between `>>` and `<<`. Raises InputError, which begins with
    `where`.
    """
    question, bars, rest = text.partition("||")
    if not bars:
        raise InputError(
            f"{where}: no '||' in {shorten(text)}; rows read 'question||<<steps>> #### answer'"
        )
    worked, answer = _split_answer(rest, where)
    worked = worked.strip()
    if worked and not _STEP.search(worked):
        raise InputError(
            f"{where}: steps in words, not in <<...>>: {shorten(worked)}; use the formula "
            "form of the file"
        )
    return _item(question, _BETWEEN_STEPS.split(worked) if worked else [], answer, where)


def parse_json(text: str, where: str) -> Item:
    """One row of GSM8K: an object with a question and a worked answer that ends in `#### n`.

    Steps are the `<<...>>` notes of the worked answer; 18 test rows have none. Raises InputError.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {shorten(text)}; one object per row") from error
    if not isinstance(record, dict):
        raise InputError(f"{where}: not a JSON object: {shorten(text)}; one object per row")
    return _from_record(record, where)


def _from_record(record: Mapping[str, Any], where: str) -> Item:
    question, worked = (_text_field(record, name, where) for name in ("question", "answer"))
    body, answer = _split_answer(worked, where)
    return _item(question, _STEP.findall(body), answer, where)


def _from_aug_record(record: Mapping[str, Any], where: str) -> Item:
    question, answer = (_text_field(record, name, where) for name in ("question", "answer"))
    steps = record.get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise InputError(
            f"{where}: field 'steps' is {shorten(repr(steps))}, not a list of texts; name a hub "
            "data set with columns question, steps, answer"
        )
    return _item(question, steps, answer, where)


def _text_field(record: Mapping[str, Any], name: str, where: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise InputError(
            f"{where}: field {name!r} is {shorten(repr(value))}, not a text; fields found: "
            f"{shorten(', '.join(map(str, record)))}"
        )
    return value


def _split_answer(text: str, where: str) -> tuple[str, str]:
    body, mark, answer = text.rpartition(_ANSWER_MARK)
    if not mark:
        raise InputError(
            f"{where}: no '{_ANSWER_MARK}' in {shorten(text)}; rows end in '{_ANSWER_MARK} answer'"
        )
    return body, answer


def _item(question: str, steps: Iterable[str], answer: str, where: str) -> Item:
    question, answer = question.strip(), answer.replace(",", "").strip()
    for name, value in (("question", question), ("answer", answer)):
        if not value:
            raise InputError(f"{where}: the {name} is empty; remove the row or fill it in")
    item = Item(question, tuple(step.strip() for step in steps), answer)
    try:
        "".join((item.question, *item.steps, item.answer)).encode()
    except UnicodeEncodeError as error:
        # JSON can spell half of a surrogate pair, which no UTF-8 text can hold
        raise InputError(
            f"{where}: half a surrogate pair in {shorten(question)}; remove it"
        ) from error
    return item


@dataclass(frozen=True)
class Gsm8k:
    """Grade-school maths in the layout of the official Coconut code.

    With `root`: files below that directory, plain or `.gz`; the full training file when it is
    there, else the two published parts of it, which make 9,915 rows and are not the 385,620-row
    set of the papers; `train_files` (relative to `root`) overrides the choice. Without: the hub.
    The GSM8K revision is a commit; for the GSM8K-Aug mirror no commit is known to us, so its
    default is the branch `main`, which can move: the digest in the provenance says what was read.
    A training question that stood before, in this file or an earlier one, is dropped; other rows
    stay as published, also those without steps or whose last step is not the answer.
    `drop_overlap` removes training rows whose question is in validation or test, which is
    otherwise an error. Raises InputError for bad knobs, files and rows.
    """

    name: str = "gsm8k"
    root: str | None = None
    train_files: list[str] = field(default_factory=list)
    drop_overlap: bool = False
    aug_hub: str = "whynlp/gsm8k-aug"
    aug_revision: str = "main"
    test_hub: str = "openai/gsm8k"
    test_config: str = "main"
    test_revision: str = "cc7b047b6e5bb11b4f1af84efc572db110a51b3c"

    template: ClassVar[Template] = Template()

    def __post_init__(self) -> None:
        if self.train_files and self.root is None:
            raise InputError(
                f"data.train_files={list(self.train_files)}: needs data.root=<directory>, to which "
                "the names are relative"
            )
        for name in self.train_files:
            if Path(name).is_absolute():
                raise InputError(f"data.train_files: {name} must be relative to data.root")

    def load(self) -> Splits:
        """The three splits; the provenance has their files or revisions, row counts and digests."""
        parts = self._from_hub() if self.root is None else self._from_files(Path(self.root))
        items, sources, names = parts
        train, repeated = _without_repeats(items["train"])
        kept = self._without_overlap(train, items["validation"], items["test"])
        splits = Splits(train=kept, validation=items["validation"], test=items["test"])
        way_out = "remove them from one; data.drop_overlap=true does so for training rows"
        check_disjoint(splits, names, way_out)
        provenance = {
            **sources,
            "dropped": {"repeated": repeated, "overlap": len(train) - len(kept)},
            "counts": {split: len(getattr(splits, split)) for split in SPLITS},
            "digest": splits_digest(splits),
        }
        return Splits(splits.train, splits.validation, splits.test, provenance)

    def place_of(self, item: Item) -> str | None:
        """`file:row` of an item that was read from files: looked up when it is to be complained
        about, not kept for every row."""
        if self.root is None:
            return None
        root = Path(self.root).expanduser()
        for name in (*self._choose(root), VALIDATION, TEST):
            path = locate(root, name)
            for number, text in iterate_rows(unpack(path), path) if path else ():
                if _parser(name)(text, f"{path}:{number}") == item:
                    return f"{path}:{number}"
        return None

    def _without_overlap(
        self, train: list[Item], validation: Sequence[Item], test: Sequence[Item]
    ) -> list[Item]:
        if not self.drop_overlap:
            return train
        held_out = {normalise(item.question) for part in (validation, test) for item in part}
        kept = [item for item in train if normalise(item.question) not in held_out]
        if not kept:
            raise InputError(
                "data.drop_overlap=true: every training question is in validation or test; name "
                "other training rows"
            )
        return kept

    def _from_files(self, given: Path) -> tuple[dict[str, list[Item]], dict[str, Any], dict]:
        root = given.expanduser()
        if not root.is_dir():
            raise InputError(f"data.root={given}: no such directory; it should hold {_LAYOUT}")
        chosen = {"train": self._choose(root), "validation": [VALIDATION], "test": [TEST]}
        items: dict[str, list[Item]] = {split: [] for split in SPLITS}
        files: dict[str, dict[str, Any]] = {}
        for split, names in chosen.items():
            for name in names:
                rows, files[name] = _read(root, name)
                items[split] += rows
        sources: dict[str, Any] = {"source": "files", "files": files, "train": chosen["train"]}
        if chosen["train"] == list(REDUCED_TRAIN):
            sources["remark"] = (
                f"training rows are two published parts of GSM8K-Aug, not its {FULL_ROWS} rows"
            )
        return items, sources, {split: ", ".join(names) for split, names in chosen.items()}

    def _choose(self, root: Path) -> list[str]:
        """The training files: those asked for, else the full one, else the parts in its place."""
        if self.train_files:
            return list(self.train_files)
        return [FULL_TRAIN] if locate(root, FULL_TRAIN) else list(REDUCED_TRAIN)

    def _from_hub(self) -> tuple[dict[str, list[Item]], dict[str, Any], dict]:
        wanted = {
            "train": (self.aug_hub, None, self.aug_revision, _from_aug_record),
            "validation": (self.aug_hub, None, self.aug_revision, _from_aug_record),
            "test": (self.test_hub, self.test_config, self.test_revision, _from_record),
        }
        items: dict[str, list[Item]] = {}
        files: dict[str, dict[str, Any]] = {}
        for split, (hub, config, revision, parse) in wanted.items():
            label = f"{hub}/{split}"
            records = _hub_records(hub, config, split, revision)
            items[split] = [parse(row, f"{label}:{n}") for n, row in enumerate(records, start=1)]
            if not items[split]:
                raise InputError(f"data.root=null: {label} at revision {revision} has no rows")
            files[label] = {"revision": revision, "rows": len(items[split])}
        names = {split: f"{hub}/{split}" for split, (hub, *_) in wanted.items()}
        return items, {"source": "hub", "files": files}, names


def _read(root: Path, name: str) -> tuple[list[Item], dict[str, Any]]:
    path = locate(root, name)
    if path is None:
        raise InputError(f"{root / name}: no such file, nor {name}.gz; data.root holds {_LAYOUT}")
    content = unpack(path)
    parse = _parser(name)
    items = [parse(text, f"{path}:{number}") for number, text in iterate_rows(content, path)]
    return items, {"sha256": digest(content), "rows": len(items)}


def _parser(name: str) -> Callable[[str, str], Item]:
    return parse_json if name.removesuffix(".gz").endswith(".jsonl") else parse_line


def _without_repeats(items: Sequence[Item]) -> tuple[list[Item], int]:
    """Keep the first row of each question: rollouts and noise are keyed by the question."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.question, item)
    return list(first.values()), len(items) - len(first)


def _hub_records(
    hub: str, config: str | None, split: str, revision: str
) -> Iterator[Mapping[str, Any]]:
    import datasets

    try:
        yield from datasets.load_dataset(hub, config, split=split, revision=revision)  # type: ignore
    except Exception as error:
        # No common base class: offline, refused, gated, renamed and malformed each raise their
        # own.
        lines = str(error).strip().splitlines() or [""]
        raise InputError(
            f"data.root=null: {hub} ({split}, revision {revision}) cannot be had from the hub "
            f"({type(error).__name__}: {shorten(lines[0], 100)}); use local files: "
            f"data.root=<directory> with {_LAYOUT}"
        ) from error
