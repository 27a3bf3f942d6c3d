"""What stands in the files of a data directory: rows, broken rows, repeats, shared questions."""

from __future__ import annotations

import csv
import importlib
import io
import json
import pkgutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any

from latentbench.data._files import digest, unpack
from latentbench.data._overlap import mask_numbers, normalise
from latentbench.data._published import File
from latentbench.errors import InputError

_ORDER = ("train", "validation", "test")


@dataclass(frozen=True)
class FileCount:
    """One file: its rows, those that cannot be read (and the first of them), the rows whose
    question stood before, the distinct questions, and the published edition it is."""

    set: str
    file: str
    split: str
    rows: int
    malformed: int
    repeated: int
    questions: int
    edition: str
    first_malformed: str


@dataclass(frozen=True)
class Overlap:
    """Distinct questions of `second` that also stand in `first`: letter by letter; whatever their
    case, blanks and quotes; and with all numbers masked as well."""

    first: str
    second: str
    splits: str
    exact: int
    normalised: int
    masked: int
    of: int


@dataclass(frozen=True)
class Report:
    files: tuple[FileCount, ...]
    overlaps: tuple[Overlap, ...]

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    def as_csv(self) -> str:
        """The overlaps as a table; the counts of the files are in the JSON form."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([field.name for field in fields(Overlap)])
        writer.writerows(list(asdict(overlap).values()) for overlap in self.overlaps)
        return out.getvalue()


def set_names() -> list[str]:
    """The data sets of this package that are read from published files, by file name."""
    package = importlib.import_module("latentbench.data")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [name for name in names if not name.startswith("_") and _files_of(name)]


def _files_of(name: str) -> tuple[File, ...]:
    module = importlib.import_module(f"latentbench.data.{name}")
    own = (value for value in vars(module).values() if isinstance(value, type))
    declared = (
        vars(value).get("files", ()) for value in own if value.__module__ == module.__name__
    )
    return next((files for files in declared if files), ())


def report(root: Path, names: Sequence[str] = ()) -> Report:
    """Every known file of the named data sets (of all without names) that is below `root`.

    Raises InputError for an unknown name and for a directory without any of the files.
    """
    known = set_names()
    for name in names:
        if name not in known:
            raise InputError(f"sets={name}: choose of {', '.join(known)}")
    if not root.is_dir():
        raise InputError(f"root={root}: no such directory; give the one that holds the data files")
    counts: list[FileCount] = []
    forms: dict[str, _Forms] = {}
    for name in names or known:
        for file in _files_of(name):
            path = file.find(root)
            if path is not None:
                count, questions = _count(name, file, path)
                counts.append(count)
                forms[file.name] = _Forms.of(questions)
    if not counts:
        raise InputError(f"root={root}: none of the files of {', '.join(names or known)} is there")
    return Report(tuple(counts), tuple(_overlaps(counts, forms)))


@dataclass(frozen=True)
class _Forms:
    """The distinct questions of a file in the three forms in which they are compared: `masked`
    maps a masked form to how many distinct questions have it."""

    exact: frozenset[str]
    normalised: frozenset[str]
    masked: dict[str, int]

    @classmethod
    def of(cls, questions: Sequence[str]) -> _Forms:
        exact = frozenset(questions)
        masked: dict[str, int] = {}
        for question in exact:
            form = mask_numbers(question)
            masked[form] = masked.get(form, 0) + 1
        return cls(exact, frozenset(map(normalise, exact)), masked)


def _count(name: str, file: File, path: Path) -> tuple[FileCount, list[str]]:
    questions: list[str] = []
    rows = malformed = 0
    first = ""
    content = unpack(path)
    read = iter(file.rows(content, path))
    while True:
        try:
            number, row = next(read)
        except StopIteration:
            break
        except InputError as error:
            # A broken array or text ends the file: what follows cannot be told apart into rows.
            rows, malformed, first = rows + 1, malformed + 1, first or str(error)
            break
        rows += 1
        try:
            item = file.parse(row, f"{path}:{number}")
        except InputError as error:
            malformed, first = malformed + 1, first or str(error)
            continue
        if item is not None:
            questions.append(item.question)
    edition = file.edition(digest(content), rows)
    label = edition.label if edition else "unknown"
    distinct = len(set(questions))
    repeated = len(questions) - distinct
    counted = FileCount(
        name, file.name, file.split, rows, malformed, repeated, distinct, label, first
    )
    return counted, questions


def _overlaps(counts: Sequence[FileCount], forms: dict[str, _Forms]) -> list[Overlap]:
    found = []
    for pair in combinations(counts, 2):
        # Training files first: the share is then one of the held-out questions.
        first, second = sorted(pair, key=lambda count: _ORDER.index(count.split))
        one, other = forms[first.file], forms[second.file]
        found.append(
            Overlap(
                first.file,
                second.file,
                f"{first.split} x {second.split}",
                len(one.exact & other.exact),
                len(one.normalised & other.normalised),
                sum(other.masked[form] for form in one.masked.keys() & other.masked.keys()),
                second.questions,
            )
        )
    return found


def lines(report: Report) -> list[str]:
    """The report as text: the files, then the pairs that share anything."""
    header = ("file", "split", "rows", "malformed", "repeated", "edition")
    table: list[tuple[Any, ...]] = [header]
    table += [
        (count.file, count.split, count.rows, count.malformed, count.repeated, count.edition)
        for count in report.files
    ]
    shown = _aligned(table)
    shown += ["", *(f"malformed: {c.first_malformed}" for c in report.files if c.first_malformed)]
    shared = [pair for pair in report.overlaps if pair.exact or pair.normalised or pair.masked]
    pairs: list[tuple[Any, ...]] = [
        ("questions of the second in the first", "", "exact", "normalised", "masked", "of")
    ]
    pairs += [
        (pair.first, pair.second, pair.exact, pair.normalised, pair.masked, pair.of)
        for pair in shared
    ]
    shown += _aligned(pairs) if shared else []
    shown.append(f"{len(report.overlaps) - len(shared)} other pairs of files share no question.")
    return shown


def _aligned(table: Sequence[Sequence[Any]]) -> list[str]:
    """Columns of equal width, numbers to the right."""
    widths = [max(len(str(row[place])) for row in table) for place in range(len(table[0]))]
    sides = [">" if isinstance(cell, int) else "<" for cell in table[-1]]
    columns = list(zip(sides, widths, strict=True))
    return [
        "  ".join(
            f"{cell:{side}{width}}" for cell, (side, width) in zip(row, columns, strict=True)
        ).rstrip()
        for row in table
    ]
