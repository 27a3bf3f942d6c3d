"""The command `python -m latentbench.data report root=<directory> [sets=a,b] [out=<file>]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from latentbench.data._report import lines, report
from latentbench.errors import InputError

USAGE = (
    "python -m latentbench.data report root=<directory> [sets=<name>,<name>] [out=<file.json|csv>]"
)
_KEYS = ("root", "sets", "out")


def run(arguments: Sequence[str]) -> None:
    """Print the report; write it where `out` says, and nothing without it. Raises InputError."""
    if not arguments or arguments[0] != "report":
        raise InputError(f"{' '.join(arguments) or 'nothing asked for'}: {USAGE}")
    options: dict[str, str] = {}
    for argument in arguments[1:]:
        key, equals, value = argument.partition("=")
        if key not in _KEYS or not equals or not value:
            raise InputError(f"{argument}: {USAGE}")
        options[key] = value
    if "root" not in options:
        raise InputError(f"root=<directory> is missing: {USAGE}")
    out = Path(options["out"]).expanduser() if "out" in options else None
    if out is not None and (out.suffix not in (".json", ".csv") or not out.parent.is_dir()):
        raise InputError(f"out={out}: name a .json or .csv file in a directory that exists")
    names = options["sets"].split(",") if "sets" in options else ()
    made = report(Path(options["root"]).expanduser(), names)
    print("\n".join(lines(made)))
    if out is not None:
        out.write_text(made.as_json() if out.suffix == ".json" else made.as_csv())


def main() -> int:
    try:
        run(sys.argv[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
