r"""One spelling of a LaTeX answer, so that 1/2, \dfrac{1}{2} and 0.5 are one vote."""

from __future__ import annotations

import re
from fractions import Fraction

from latentbench.reward._number import canonical

_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|.", re.DOTALL)
_NOTHING = {"~", "\\,", "\\;", "\\:", "\\!", "\\ ", "\\quad", "\\qquad", "\\displaystyle"}
_SIZES = {"\\left", "\\right"}
_SAME = {
    **{"\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac", "\u2212": "-"},
    **{"\\times": "\\cdot", "\\le": "\\leq", "\\ge": "\\geq"},
}
# How many arguments follow.
_ARGUMENTS = {"\\frac": 2, "\\sqrt": 1, "^": 1, "_": 1}

_DIGITS = r"[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+"
_PLAIN = re.compile(rf"[-+]?(?:{_DIGITS})(?:/(?:{_DIGITS}))?")
_POWER = re.compile(rf"([-+]?(?:{_DIGITS}))\\cdot10\^\{{([-+]?[0-9]+)\}}")
_FRACTION = re.compile(rf"([-+]?)([0-9]*)\\frac\{{(-?)({_DIGITS})\}}\{{(-?)({_DIGITS})\}}")
# What a grader of numbers overlooks: the name of the unknown, and a unit.
_NAME = re.compile(r"[a-zA-Z]=(?=[^=,;]+\Z)")
_UNIT = re.compile(r"(?:\^(?:\\circ|\{\\circ\})|\\(?:text|mathrm)\{[^{}]*\}(?:\^\{[23]\})?)\Z")
# Longer ones stay as they are written.
_LONGEST_FRACTION = 200


def spelling(answer: str) -> str:
    r"""The answer in its one spelling: a number canonically, as `exact_number` does, anything else
    without blanks and sizes of brackets, with `\frac` for its kinds and braces around arguments.

    Linear in the length; nothing is computed but the value of a number.
    """
    written = _joined(_unwrapped(_braced(_tokens(answer))))
    written = _NAME.sub("", written, count=1) if _NAME.match(written) else written
    return _number(_UNIT.sub("", written)) or written


def _tokens(answer: str) -> list[str]:
    found: list[str] = []
    previous = ""
    for token in _TOKEN.findall(answer):
        invisible = token.isspace() or token in _NOTHING or token in _SIZES
        if not invisible and not (token == "." and previous in _SIZES):
            found.append(_SAME.get(token, token))
        previous = token if not token.isspace() else previous
    return found


def _braced(tokens: list[str]) -> list[str]:
    r"""With braces around every argument that is one letter or digit.

    Others are left as they are: Math-Verify reads `\frac12`, and `\frac\pi2` not.
    """
    made: list[str] = []
    # By depth of braces, how many arguments are still to come.
    expected = [0]
    for token in tokens:
        if token == "{":
            expected.append(0)
        elif token == "}" and len(expected) > 1:
            expected.pop()
            expected[-1] = max(expected[-1] - 1, 0)
        elif expected[-1] and token.isalnum():
            expected[-1] -= 1
            made += ["{", token, "}"]
            continue
        else:
            expected[-1] = _ARGUMENTS.get(token, 0)
        made.append(token)
    return made


def _unwrapped(tokens: list[str]) -> list[str]:
    """Without braces around the whole."""
    partner: dict[int, int] = {}
    opened: list[int] = []
    for place, token in enumerate(tokens):
        if token == "{":
            opened.append(place)
        elif token == "}" and opened:
            partner[opened.pop()] = place
    outside = 0
    while partner.get(outside) == len(tokens) - 1 - outside:
        outside += 1
    return tokens[outside : len(tokens) - outside]


def _joined(tokens: list[str]) -> str:
    r"""As one text: a blank where `\pi` and `r` would become another command."""
    pieces: list[str] = []
    for token in tokens:
        command = bool(pieces) and pieces[-1][:1] == "\\" and pieces[-1][-1].isalpha()
        pieces.append(f" {token}" if command and token.isalpha() else token)
    return "".join(pieces)


def _number(written: str) -> str | None:
    """The canonical spelling of what is a number and nothing else."""
    if _PLAIN.fullmatch(written):
        return canonical(written)
    if power := _POWER.fullmatch(written):
        return canonical(f"{power[1]}e{power[2]}")
    if not (found := _FRACTION.fullmatch(written)) or len(written) > _LONGEST_FRACTION:
        return None
    sign, whole, minus, above, other_minus, below = found.groups()
    if not whole:
        negative = (sign == "-") != (minus != other_minus)
        return canonical(f"{'-' if negative else ''}{above}/{below}")
    if minus or other_minus or not (above.isdigit() and below.isdigit()) or int(below) == 0:
        return None
    mixed = int(whole) + Fraction(int(above), int(below))
    return canonical(f"{sign}{mixed.numerator}/{mixed.denominator}")
