"""The box that a worked answer ends in, as data sets and graders find it."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
# An escaped brace, \{ or \}, opens and closes nothing.
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def last_box(text: str, longest: int | None = None) -> str | None:
    r"""What the last `\boxed{...}` or `\fbox{...}` holds; None without one, or when it does not
    close (within `longest` characters)."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    box = _BOX.match(text, start) if start >= 0 else None
    if box is None:
        return None
    depth, end = 1, len(text) if longest is None else box.end() + longest + 1
    for brace in BRACE.finditer(text, box.end(), end):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[box.end() : brace.start()]
    return None
