"""What the published data sets have in common: known files, known counts, one way to load them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from latentbench.data import DataSet
from latentbench.data._files import digest, locate, unpack
from latentbench.data._hub import hub_records
from latentbench.data._overlap import check_disjoint, splits_digest
from latentbench.data._rows import boxed, decode, gold, iterate_records, make_item, text
from latentbench.errors import InputError, shorten
from latentbench.records import SPLITS, Item, Splits

log = logging.getLogger(__name__)

OTHER_ANSWER = "repeated with another answer"

# A row to an Item; None for a row that is no question of the benchmark (GSM-Plus has such).
Parse = Callable[[Any, str], Item | None]


@dataclass(frozen=True)
class Edition:
    """One published form of a file: its number of rows and, where known, the sha256 unpacked."""

    rows: int
    sha256: str | None = None
    label: str = "as published"


@dataclass(frozen=True)
class File:
    """A file below `data.root`: its name there (or in the repository of `origin`, `alias`), the
    split it holds, where it is from, its editions (none: any content), and how a row is read."""

    name: str
    split: str
    origin: str
    parse: Parse
    editions: tuple[Edition, ...] = ()
    alias: str | None = None
    optional: bool = False
    rows: Callable[[bytes, Path], Iterable[tuple[int, Any]]] = iterate_records

    def find(self, root: Path) -> Path | None:
        return locate(root, self.name) or (locate(root, self.alias) if self.alias else None)

    def edition(self, sha256: str, rows: int) -> Edition | None:
        """The edition with this digest, else one of unknown digest with this number of rows."""
        for known in self.editions:
            if known.sha256 == sha256:
                return known
        unknown = (known for known in self.editions if known.sha256 is None)
        return next((known for known in unknown if known.rows == rows), None)


@dataclass(frozen=True)
class HubSplit:
    """One split of a hub data set: which configuration and split there, and how many rows (None
    where that is not known to us)."""

    split: str
    parse: Parse
    hub_split: str
    rows: int | None
    config: str | None = None


def read_file(
    file: File, path: Path, name: str, accepted: Collection[str] | None
) -> tuple[list[Item | None], dict[str, Any]]:
    """The rows of a file of data set `name`, and the provenance of the file.

    It must be one of its editions, if it has any, unless its digest is among those `accepted` (None
    accepts whatever is there). Raises InputError, which says how to accept it.
    """
    content = unpack(path)
    sha256 = digest(content)
    free = accepted is None or sha256 in accepted or not file.editions
    known = any(edition.sha256 == sha256 for edition in file.editions)
    uncounted = any(edition.sha256 is None for edition in file.editions)
    if not (free or known or uncounted):
        _refuse(file, path, name, sha256, "")
    items = [file.parse(row, f"{path}:{n}") for n, row in file.rows(content, path)]
    edition = file.edition(sha256, len(items))
    if edition is None and not free:
        _refuse(file, path, name, sha256, f" with {len(items)} rows")
    return items, {
        "sha256": sha256,
        "rows": len(items),
        "edition": edition.label if edition else "unknown",
        "checked": "sha256" if known else "rows" if edition else "nothing",
        "origin": file.origin,
    }


def _refuse(file: File, path: Path, name: str, sha256: str, rows: str) -> None:
    known = ", ".join(f"{edition.label}: {edition.rows} rows" for edition in file.editions)
    raise InputError(
        f"{path}{rows}: not the published file ({known}); a changed file is another benchmark: "
        f"copy it again from {file.origin}, or accept it: data={name} data.sha256=[{sha256}]"
    )


def read_hub(
    part: HubSplit, hub: str, revision: str, key: str, local_files: str
) -> tuple[list[Item | None], str, dict[str, Any]]:
    """The rows of one split of `hub`, its label, and its provenance with the commit that was read.

    Raises InputError for a number of rows that was not published; `key` is the option that pins the
    revision, and `local_files` says which local files would do instead.
    """
    label = f"{hub}/{part.config or ''}/{part.hub_split}".replace("//", "/")
    rows, commit = hub_records(hub, part.config, part.hub_split, revision, local_files)
    read = [part.parse(row, f"{label}:{n}") for n, row in enumerate(rows, start=1)]
    if not read or part.rows not in (None, len(read)):
        published = "" if part.rows is None else f", published were {part.rows}"
        raise InputError(
            f"{label} at revision {revision}: {len(read)} rows{published}; it changed upstream: "
            f"name the old commit with {key}, or use local files: data.root=<directory> with "
            f"{local_files}"
        )
    return read, label, {"revision": revision, "commit": commit, "rows": len(read)}


@dataclass(frozen=True)
class Published(DataSet):
    """A published data set, from files below `root` or, without it, from the hub at `revision`.

    A file must have the sha256 of a known edition or, where that digest is not known, its number
    of rows; `sha256` lists the digests of other files to accept. Of rows with one question the
    first counts: rollouts, noise and paired tests are keyed by the question. The provenance says
    which edition was read and how many rows were left out. Raises InputError for files, rows, and
    what the hub refuses.
    """

    name: str = ""
    root: str | None = None
    hub: str | None = None
    revision: str = "main"
    sha256: list[str] = field(default_factory=list)

    grader: ClassVar[str | None] = "exact_number"
    files: ClassVar[tuple[File, ...]] = ()
    hub_splits: ClassVar[tuple[HubSplit, ...]] = ()

    def load(self, splits: Collection[str] = SPLITS) -> Splits:
        """The splits asked for; the others, and those that the set does not publish, are empty."""
        parts = self.parts_of(splits)
        found, sources = self._from_hub(parts) if self.root is None else self._from_files(parts)
        counts = {"repeated": 0, OTHER_ANSWER: 0, "no question": 0}
        items: dict[str, list[Item]] = {}
        for split in SPLITS:
            asked = [item for item in found[split] if item is not None]
            counts["no question"] += len(found[split]) - len(asked)
            items[split], repeated, conflicting = without_repeats(asked)
            counts["repeated"] += repeated
            counts[OTHER_ANSWER] += len(conflicting)
            tell_conflicts(f"data={self.name}: {split}", conflicting)
        items = self.arranged(items)
        chosen = {split: items[split] if split in splits else [] for split in SPLITS}
        loaded = Splits(chosen["train"], chosen["validation"], chosen["test"])
        check_disjoint(loaded)
        provenance = {
            **sources,
            "dropped": counts,
            "counts": {split: len(getattr(loaded, split)) for split in SPLITS},
            "digest": splits_digest(loaded),
        }
        return replace(loaded, provenance=provenance)

    def parts_of(self, splits: Collection[str]) -> Collection[str]:
        """The published parts that `splits` are made of; a set that `arranged` divides says so."""
        return splits

    def arranged(self, items: dict[str, list[Item]]) -> dict[str, list[Item]]:
        """The items by split; a set that is published as one part divides it here."""
        return items

    def chosen_files(self) -> tuple[File, ...]:
        """The files that `load` reads, of all that are known."""
        return self.files

    def chosen_hub_splits(self) -> tuple[HubSplit, ...]:
        """The hub splits that `load` reads."""
        return self.hub_splits

    def place_of(self, item: Item) -> str | None:
        """`file:row` of an item that was read from files, None without files."""
        if self.root is None:
            return None
        for file in self.chosen_files():
            path = file.find(Path(self.root).expanduser())
            for number, row in file.rows(unpack(path), path) if path else ():
                if file.parse(row, f"{path}:{number}") == item:
                    return f"{path}:{number}"
        return None

    def _layout(self) -> str:
        return ", ".join(
            f"{file.name} ({file.origin})" for file in self.chosen_files() if not file.optional
        )

    def _from_files(
        self, parts: Collection[str]
    ) -> tuple[dict[str, list[Item | None]], dict[str, Any]]:
        root = Path(str(self.root)).expanduser()
        if not root.is_dir():
            raise InputError(
                f"data.root={self.root}: no such directory; for {self.name} it should hold "
                f"{self._layout()}"
            )
        items: dict[str, list[Item | None]] = {split: [] for split in SPLITS}
        entries: dict[str, dict[str, Any]] = {}
        for file in self.chosen_files():
            if file.split not in parts:
                continue
            path = file.find(root)
            if path is not None:
                read, entries[file.name] = read_file(file, path, self.name, self.sha256)
                items[file.split] += read
            elif not file.optional:
                raise InputError(
                    f"{root / file.name}: no such file, nor {file.name}.gz; copy it there from "
                    f"{file.origin}"
                )
        return items, {"source": "files", "files": entries}

    def _from_hub(
        self, parts: Collection[str]
    ) -> tuple[dict[str, list[Item | None]], dict[str, Any]]:
        if self.hub is None:
            raise InputError(
                f"data.root=null: {self.name} is not on the hub in its published form; use local "
                f"files: data.root=<directory> with {self._layout()}"
            )
        if self.sha256:
            raise InputError(
                f"data.sha256={list(self.sha256)}: is of files; give their data.root=<directory>"
            )
        items: dict[str, list[Item | None]] = {split: [] for split in SPLITS}
        entries: dict[str, dict[str, Any]] = {}
        for part in self.chosen_hub_splits():
            if part.split not in parts:
                continue
            read, label, entry = read_hub(
                part, self.hub, self.revision, "data.revision", self._layout()
            )
            items[part.split] += read
            entries[label] = entry
        return items, {"source": "hub", "files": entries}


class PublishedQuestions(Published):
    """A published set of test questions: one file, `<name>/test.jsonl`, and one split of the hub.

    A subclass declares where they are from. `question` and `answer` are the fields of a row, the
    first that it has; a row without an answer has it boxed in the field `boxed_in`. Rows that take
    more than that have their own `parse`. On the hub there are `hub_rows`, by default as many as in
    the first edition.
    """

    question: ClassVar[tuple[str, ...]] = ("question",)
    answer: ClassVar[tuple[str, ...]] = ("answer",)
    boxed_in: ClassVar[str | None] = None
    origin: ClassVar[str]
    editions: ClassVar[tuple[Edition, ...]]
    hub_split: ClassVar[str] = "test"
    hub_rows: ClassVar[int | None] = None
    hub_config: ClassVar[str | None] = None

    def __init_subclass__(cls) -> None:
        read, rows = of_fields(cls.parse), cls.hub_rows or cls.editions[0].rows
        cls.files = (File(f"{cls.name}/test.jsonl", "test", cls.origin, read, cls.editions),)
        cls.hub_splits = (HubSplit("test", read, cls.hub_split, rows, cls.hub_config),)

    @classmethod
    def parse(cls, record: Mapping[str, Any], where: str) -> Item | None:
        """A row as a question with its gold; None for one that is left out. Raises InputError,
        which begins with `where`."""
        question = text(record, where, *cls.question)
        if cls.boxed_in is None or any(name in record for name in cls.answer):
            answer = gold(record, where, *cls.answer)
        else:
            answer = boxed(text(record, where, cls.boxed_in), where)
        return make_item(question, (), answer, where)


def full_or_part(rows: int, part: int, sha256: str) -> tuple[Edition, ...]:
    """The editions of a set that also goes round as a 70 % subset, whose digest is known."""
    return Edition(rows, None, "full"), Edition(part, sha256, "70 % subset")


def without_repeats(
    items: Sequence[Item],
) -> tuple[list[Item], int, list[tuple[Item, Item]]]:
    """The first item of each question, how many others there were, and those of them that have
    another answer, each behind the one that is kept."""
    first: dict[str, Item] = {}
    conflicting = []
    for item in items:
        kept = first.setdefault(item.question, item)
        if kept.answer != item.answer:
            conflicting.append((kept, item))
    return list(first.values()), len(items) - len(first), conflicting


def tell_conflicts(where: str, conflicting: Sequence[tuple[Item, Item]]) -> None:
    """Say which answer of two to one question is taken."""
    if conflicting:
        kept, dropped = conflicting[0]
        log.warning(
            "%s: %d rows give another answer to a question that stood before; the first "
            "is kept, e.g. of %s it is %s and not %s",
            where,
            len(conflicting),
            shorten(kept.question),
            kept.answer,
            dropped.answer,
        )


def refuse_repeats(items: Sequence[Item], where: str) -> None:
    """Raise InputError, which begins with `where` and the row, for a question that stood before."""
    first: dict[str, int] = {}
    for number, item in enumerate(items, start=1):
        if first.setdefault(item.question, number) != number:
            raise InputError(
                f"{where}:{number}: {shorten(item.question)} is the question of row "
                f"{first[item.question]} again; remove one of them: answers are told apart by "
                "their question"
            )


def of_fields(parse: Callable[[Any, str], Item | None]) -> Parse:
    """A reader of fields as a reader of rows: rows that are still text are decoded first."""

    def read(row: Any, where: str) -> Item | None:
        return parse(decode(row, where), where)

    return read
