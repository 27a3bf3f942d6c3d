"""What a user did that cannot work, said in one line."""

from __future__ import annotations

from collections.abc import Sequence


class InputError(Exception):
    """Bad input: the message names the key (or the file and row), the value and the way out.

    The command line prints the message alone and exits with code 2, before any training.
    """


class RunFailed(Exception):
    """A run that goes no further, for a reason of its own and none of the program's.

    The message says what was reached and the way out. The command line prints it alone and exits
    with code 1; the run is recorded as failed.
    """


class DidNotLearn(RunFailed):
    """The model has not learned what comes before."""


class NotFinite(RunFailed):
    """Something computed is infinite or no number: nothing after it would be a result."""


def refuse_unknown(key: str, value: str, legal: Sequence[str]) -> None:
    """Raise InputError for a value that is none of the legal ones."""
    if value not in legal:
        raise InputError(f"{key}={value}: choose one of {', '.join(legal)}")


def shorten(text: str, width: int = 60) -> str:
    """`text` as one quoted, printable piece of an error message."""
    return repr(text if len(text) <= width else text[: width - 3] + "...")
