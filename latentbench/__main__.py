"""`latentbench <command> ...`, from any folder: what `python run.py` and `python -m ...` do in a
checkout. Without a command it is a run."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module

import latentbench

COMMANDS = {
    "run": "latentbench.cli",
    "evaluate": "latentbench.evaluate",
    "convert": "latentbench.convert",
    "calibrate": "latentbench.calibrate",
    "data": "latentbench.data.__main__",
    "table": "latentbench.analysis.run_table",
    "collect": "latentbench.analysis.collect",
    "tables": "latentbench.analysis.tables",
    "figures": "latentbench.analysis.figures",
    "report": "latentbench.analysis.report",
    "compare": "latentbench.analysis.compare",
    "plan": "latentbench.analysis.plan",
}
BAD_INPUT = 2


def main() -> int | None:
    """The exit code of the command. A first word that is neither a command nor part of a run's
    command line is bad input."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first == "--version":
        print(f"latentbench {latentbench.__version__}")
        return 0
    if first == "check":
        sys.argv[1:] = ["--check"]
    elif first.replace("_", "").isalpha():
        if first not in COMMANDS:
            close = difflib.get_close_matches(first, COMMANDS, 1)
            hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(COMMANDS)}"
            print(f"error: {first}: no such command; {hint}", file=sys.stderr)
            return BAD_INPUT
        del sys.argv[1]
        module = import_module(COMMANDS[first])
        if first != "run":
            sys.argv[0] = str(module.__file__)  # what the jobs of a sweep are started by
        return module.main()
    return import_module(COMMANDS["run"]).main()


if __name__ == "__main__":
    sys.exit(main())
