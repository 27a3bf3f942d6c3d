"""Reading the first number of a text exactly."""

from __future__ import annotations

import re
from fractions import Fraction

# A sign counts only directly before the number or its currency, and not after a letter or digit,
# where it is a hyphen or a minus between two numbers. A decimal point may open a number, but not
# as the end of a word or of an ellipsis. ASCII digits only: \d also matches digits of other
# scripts.
_NUMBER = re.compile(
    r"(?P<sign>(?<!\w)[-+\u2212])?(?:[$€£¥] ?(?P<inner>[-+\u2212])?)?"
    r"(?P<body>(?:(?<![.\w])\.)?[0-9][0-9.,]*)"
)
_DIGIT = re.compile(r"[0-9]")
_LONGEST_PREFIX = 5
_EXPONENT = re.compile(r"[eE]([-+\u2212]?)([0-9]+)")
_DENOMINATOR = re.compile(r" ?/ ?([0-9][0-9.,]*)")
_PLAIN = re.compile(r"(?P<whole>[0-9]*|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.(?P<decimals>[0-9]+))?")
# What makes the digits before it part of something else: a date, a power, a version, 1_000, 1'000,
# 1 1/2, 1 000 with any blank, 3/-4, 5*10^3.
_BLANKS = " \t\u00a0\u2007\u2009\u202f"
_CONTINUED = re.compile(
    rf"[.,_^/'\u2019]?[0-9]|[{_BLANKS}][0-9]+[{_BLANKS}]?/[{_BLANKS}]?[0-9]"
    rf"|[{_BLANKS}][0-9]{{3}}(?![0-9])"
    rf"|[{_BLANKS}]?/[(+\-\u2212$€£¥{_BLANKS}]*\.?[0-9]"
    rf"|[{_BLANKS}]?(?:[*xX\u00d7\u00b7\u22c5]|\\times|\\cdot)[{_BLANKS}]?[0-9]"
)
# A dash that does not touch the number, or is not the minus sign: a minus, a bullet or a pause.
_DASHES = "-\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
_BEHIND_DASH = f"{_BLANKS}$€£¥("

_MINUS = ("-", "\u2212")
# Far below the 4,300 digits that Python converts, also after 1/2**k has been written out.
_MAX_FRACTION_PART = 200
_MAX_EXPONENT_DIGITS = 9
_MAX_ZEROS = 40


def canonical(text: str, at_start: bool = False) -> str | None:
    """The first number in `text` in its one canonical spelling, None when there is none.

    Equal values have equal spellings, so comparing these strings compares exactly, without
    rounding and without converting digits: a million of them are no problem. A number that cannot
    be read with certainty (`1,00`, `1 000`, `3.5.2`, `1 1/2`, `1/0`, `5²`, `5*10^3`, `- 5`) is
    None, not its first part.
    With `at_start` only blanks may stand before the number.
    """
    digit = _DIGIT.search(text)
    # Finding the first digit alone is several times faster; what counts before it is this short.
    found = digit and _NUMBER.search(text, max(0, digit.start() - _LONGEST_PREFIX))
    if not found or (at_start and text[: found.start()].strip()):
        return None
    if _is_foreign_digit(text[found.start() - 1 : found.start()]):
        return None
    if not found["sign"] and _is_after_dash(text[: found.start()].rstrip(_BEHIND_DASH)):
        return None
    body = found["body"].rstrip(".,")
    end = found.start("body") + len(body)
    negative = (found["sign"] in _MINUS) != (found["inner"] in _MINUS)
    value, end = _value(text, body, end)
    if value is None or _is_foreign_digit(text[end : end + 1]) or _CONTINUED.match(text, end):
        return None
    return f"-{value}" if negative and value != "0" else value


def _is_after_dash(before: str) -> bool:
    """Whether a dash ends what stands before a number, and is no hyphen behind a word."""
    word = before[-2:-1].isalnum() or before[-2:-1] == "_"
    return bool(before) and before[-1] in _DASHES and not word


def _is_foreign_digit(character: str) -> bool:
    return character.isnumeric() and not character.isascii()


def _value(text: str, body: str, end: int) -> tuple[str | None, int]:
    """The spelling of `body` with the denominator or exponent that follows, and its end."""
    if denominator := _DENOMINATOR.match(text, end):
        below = denominator[1].rstrip(".,")
        return _ratio(body, below), denominator.start(1) + len(below)
    if exponent := _EXPONENT.match(text, end):
        digits = exponent[2].lstrip("0") or "0"
        if len(digits) > _MAX_EXPONENT_DIGITS:
            return None, exponent.end()
        shift = -int(digits) if exponent[1] in _MINUS else int(digits)
        return _decimal(body, shift), exponent.end()
    return _decimal(body, 0), end


def _decimal(body: str, shift: int) -> str | None:
    parts = _PLAIN.fullmatch(body)
    if parts is None:
        return None
    decimals = parts["decimals"] or ""
    return _spell(parts["whole"].replace(",", "") + decimals, shift - len(decimals))


def _spell(digits: str, shift: int) -> str:
    """The spelling of digits x 10**shift: plain, or like 12e345 when that is mostly zeros."""
    digits = digits.lstrip("0")
    stripped = digits.rstrip("0")
    if not stripped:
        return "0"
    shift += len(digits) - len(stripped)
    if shift >= 0:
        return stripped + "0" * shift if shift <= _MAX_ZEROS else f"{stripped}e{shift}"
    zeros = -shift - len(stripped)
    if zeros > _MAX_ZEROS:
        return f"{stripped}e{shift}"
    padded = "0" * (zeros + 1) + stripped
    return f"{padded[:shift].lstrip('0') or '0'}.{padded[shift:]}"


def _ratio(above: str, below: str) -> str | None:
    if max(len(above), len(below)) > _MAX_FRACTION_PART:
        return None
    if not _PLAIN.fullmatch(above) or not _PLAIN.fullmatch(below):
        return None
    divisor = Fraction(below.replace(",", ""))
    if divisor == 0:
        return None
    ratio = Fraction(above.replace(",", "")) / divisor
    # A terminating decimal is spelt as one, so that 1/2 equals 0.5; 2**k divides 10**k.
    places = ratio.denominator.bit_length()
    scaled = ratio * 10**places
    if scaled.denominator == 1:
        return _spell(str(scaled.numerator), -places)
    return f"{ratio.numerator}/{ratio.denominator}"
