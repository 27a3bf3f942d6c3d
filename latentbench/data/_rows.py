"""From a row of a published file to an Item: rows of three formats, fields as text, clean golds."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from latentbench.data._files import iterate_rows
from latentbench.errors import InputError, shorten
from latentbench.records import Item
from latentbench.reward._box import last_box

# Some published cells (proofs, long options) pass the csv module's own 131,072 characters.
_LARGEST_CELL = 10_000_000

_BLANK = re.compile(r"[\s\x00]*")
_WHOLE_AS_FLOAT = re.compile(r"([-+]?[0-9]+)\.0+")


def iterate_records(content: bytes, path: Path) -> Iterator[tuple[int, Any]]:
    """(number from 1, row) of a file of objects: one JSON object per row, a JSON array, or a CSV.

    What the file begins with decides, not its name, but for CSV, which ends in `.csv`. Rows of a
    JSON-lines file come as text, for `decode`, so that one broken row is one broken row. Raises
    InputError for the element of an array that is broken.
    """
    if path.name.removesuffix(".gz").endswith(".csv"):
        yield from _csv_rows(content, path)
    elif content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
        yield from _elements(content, path)
    else:
        yield from iterate_rows(content, path)


def _csv_rows(content: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    csv.field_size_limit(_LARGEST_CELL)
    number = 0
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(text, newline=""), strict=True), 1):
            yield number, row
    except csv.Error as error:
        raise InputError(
            f"{path}:{number + 1}: not a sound CSV row ({error}); copy the file again"
        ) from error


def _elements(content: bytes, path: Path) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON array, read one by one: a broken one can then be named by number."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    decoder, number = json.JSONDecoder(), 1
    at = _after_blanks(text, text.index("[") + 1)
    while text[at : at + 1] != "]":
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}:{number}: not JSON: {shorten(text[at : at + 80])}; an array of objects"
            ) from error
        yield number, value
        at = _after_blanks(text, at)
        if text[at : at + 1] == ",":
            number, at = number + 1, _after_blanks(text, at + 1)
        elif text[at : at + 1] != "]":
            raise InputError(
                f"{path}:{number}: neither ',' nor ']' after element {number} but "
                f"{shorten(text[at : at + 20])}; copy the file again"
            )
    if rest := text[_after_blanks(text, at + 1) :]:
        raise InputError(
            f"{path}: {shorten(rest[:20])} after the end of the array; copy the file again"
        )


def _after_blanks(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def decode(row: Any, where: str) -> Mapping[str, Any]:
    """A row as an object of fields: decoded where it is still text. Raises InputError."""
    record = row
    if isinstance(row, str):
        try:
            record = json.loads(row)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON: {shorten(row)}; one object per row") from error
    if not isinstance(record, Mapping):
        shown = shorten(row if isinstance(row, str) else repr(row))
        raise InputError(f"{where}: not a JSON object: {shown}; one object per row")
    return record


def text(record: Mapping[str, Any], where: str, *names: str) -> str:
    """The text under the first of `names` that the row has. Raises InputError."""
    value = _first(record, names)
    if not isinstance(value, str):
        raise InputError(_wrong(record, where, names, value, "a text"))
    return value


def gold(record: Mapping[str, Any], where: str, *names: str) -> str:
    """An answer under the first of `names`: text as it stands, a number as a plain decimal.

    `27.0` becomes `27` whether it stands there as a number or as a text. Raises InputError.
    """
    value = _first(record, names)
    if isinstance(value, str):
        whole = _WHOLE_AS_FLOAT.fullmatch(value.strip())
        return whole[1] if whole else value.strip()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(_wrong(record, where, names, value, "a text or a number"))
    if not math.isfinite(value):
        raise InputError(f"{where}: field {names[0]!r} is {value}; an answer is finite")
    spelt = format(Decimal(repr(value)), "f")
    return spelt.rstrip("0").rstrip(".") if "." in spelt else spelt


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _wrong(
    record: Mapping[str, Any], where: str, names: tuple[str, ...], value: Any, wanted: str
) -> str:
    shown = " or ".join(map(repr, names))
    return (
        f"{where}: field {shown} is {shorten(repr(value))}, not {wanted}; fields found: "
        f"{shorten(', '.join(map(str, record)))}"
    )


def texts(record: Mapping[str, Any], where: str, name: str) -> list[str]:
    """The list of texts under `name`. Raises InputError."""
    value = record.get(name)
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise InputError(_wrong(record, where, (name,), value, "a list of texts"))
    return value


def boxed(solution: str, where: str) -> str:
    r"""What stands in the last `\boxed{...}` of a worked solution. Raises InputError."""
    inside = last_box(solution)
    if inside is not None:
        return inside.strip()
    raise InputError(
        f"{where}: no complete \\boxed{{...}} in {shorten(solution[-60:])}; the answer stands there"
    )


def make_item(question: str, steps: Iterable[str], answer: str, where: str) -> Item:
    """An Item with its blanks trimmed. Raises InputError for an empty question or answer."""
    item = Item(question.strip(), tuple(step.strip() for step in steps), answer.strip())
    for name, value in (("question", item.question), ("answer", item.answer)):
        if not value:
            raise InputError(f"{where}: the {name} is empty; remove the row or fill it in")
    try:
        "".join((item.question, *item.steps, item.answer)).encode()
    except UnicodeEncodeError as error:
        # JSON can spell half of a surrogate pair, which no UTF-8 text can hold
        raise InputError(
            f"{where}: half a surrogate pair in {shorten(item.question)}; remove it"
        ) from error
    return item
