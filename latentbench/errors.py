"""What a user did that cannot work, said in one line."""


class InputError(Exception):
    """Bad input: the message names the key (or the file and row), the value and the way out.

    The command line prints the message alone and exits with code 2; nothing has been written by then.
    """
