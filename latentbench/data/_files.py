"""Reading the text files of a data set: plain or gzip, row by row, errors that name the row."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

from latentbench.errors import InputError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def locate(root: Path, name: str) -> Path | None:
    """The file `name` below `root`, plain or else with `.gz` added; None when neither exists."""
    for candidate in (root / name, root / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def unpack(path: Path) -> bytes:
    """The content of a file, unpacked when its name ends in `.gz`.

    Raises InputError for a file that cannot be read, is no gzip, is cut short, or holds nothing.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except EOFError as error:
        raise InputError(f"{path}: the gzip file is cut short; copy it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path}: not a sound gzip file ({error}); copy it again, or drop .gz from its name"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not content.strip():
        raise InputError(f"{path}: the file is empty; copy it again")
    return content


def digest(content: bytes) -> str:
    """The sha256 of unpacked bytes: equal for the plain and the gzip form of one file."""
    return hashlib.sha256(content).hexdigest()


def iterate_rows(content: bytes, path: Path) -> Iterator[tuple[int, str]]:
    """(row number from 1, text) for every row of `content`, which was read from `path`.

    Rows end at a line feed and at nothing else: the published files hold U+2028 inside questions,
    at which `str.splitlines` would cut. Empty rows at the end of the file are no rows. Raises
    InputError for a row that is not UTF-8.
    """
    lines = content.removeprefix(_BYTE_ORDER_MARK).rstrip(b"\r\n").split(b"\n")
    for number, line in enumerate(lines, start=1):
        if b"\r" in line[:-1]:
            raise InputError(
                f"{path}:{number}: a carriage return inside the row; save the file with line feeds "
                "(\\n) as line ends"
            )
        try:
            yield number, line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}:{number}: not UTF-8 text (byte {line[error.start]:#04x} at position "
                f"{error.start}); save the file as UTF-8"
            ) from error
