"""What a user did that cannot work, said in one line."""


class InputError(Exception):
    """Bad input: the message names the key (or the file and row), the value and the way out.

    The command line prints the message alone and exits with code 2, before any training.
    """


def shorten(text: str, width: int = 60) -> str:
    """`text` as one quoted, printable piece of an error message."""
    return repr(text if len(text) <= width else text[: width - 3] + "...")
