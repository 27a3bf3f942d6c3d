"""Reading the first number of a text exactly.

What may stand before and behind a number is said, not what may not: whatever else touches it (a
power, a root, a factor, a word such as thousand) makes it a part of something, whose value is not
the number's.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

# A sign counts only directly before the number or its currency, and not after a letter or digit,
# where it is a hyphen or a minus between two numbers. A decimal point may open a number, but not
# as the end of a word or of an ellipsis. ASCII digits only: \d also matches digits of other
# scripts. LaTeX parts thousands by `{,}` and by thin blanks.
_DIGITS = r"[0-9][0-9.,]*(?:(?:\{,\}|\\[,;:! ])(?=[0-9])[0-9.,]+)*"
_NUMBER = re.compile(
    r"(?P<sign>(?<!\w)[-+\u2212])?(?:\\?[$€£¥] ?(?P<inner>[-+\u2212])?)?"
    rf"(?P<body>(?:(?<![.\w])\.)?{_DIGITS})"
)
_DIGIT = re.compile(r"[0-9]")
_LONGEST_PREFIX = 6
_EXPONENT = re.compile(r"[eE]([-+\u2212]?)([0-9]+)")
_DENOMINATOR = re.compile(rf" ?/ ?({_DIGITS})")
_PLAIN = re.compile(r"(?P<whole>[0-9]*|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.(?P<decimals>[0-9]+))?")
_THIN = re.compile(r"\{,\}|\\[,;:! ]")
_PART = rf"(?:\{{ *({_DIGITS}) *\}}|([0-9]))"
_FRACTION = re.compile(
    rf"(?P<sign>(?<!\w)[-+\u2212])?\\[dtc]?frac *(?:\{{ *(?P<inner>[-+\u2212]) *({_DIGITS}) *\}}"
    rf"|{_PART}) *{_PART}"
)
_FRACTION_LEAD = re.compile(r"[-+\u2212]?\\[dtc]?frac *\{? *[-+\u2212]? *\Z")
_LONGEST_LEAD = 20
# What makes the digits before it part of something else: a date, a power, a version, 1_000, 1'000,
# 1 1/2, 1 000 with any blank, 3/-4, 5*10^3, 2**3.
_BLANKS = " \t\u00a0\u2007\u2009\u202f"
_CONTINUED = re.compile(
    rf"[.,_^/'\u2019]?[0-9]|[{_BLANKS}][0-9]+[{_BLANKS}]?[/\u2044][{_BLANKS}]?[0-9]"
    rf"|[{_BLANKS}][0-9]{{3}}(?![0-9])"
    rf"|[{_BLANKS}]?/[(+\-\u2212$€£¥{_BLANKS}]*\.?[0-9]"
    rf"|\*\*[(\\]?[0-9]|[{_BLANKS}]\*\*[{_BLANKS}]?[(\\]?[0-9]|[{_BLANKS}]?[*xX\u00d7\u00b7\u22c5][{_BLANKS}]?[(\\]?[0-9]"
    r"|\([-+.\\0-9\u2212]"
)
# A dash that does not touch the number, or is not the minus sign: a minus, a bullet or a pause,
# also before what only dresses the number up.
_DASHES = "-\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
_DRESS = re.compile(rf"(?:\\(?:boxed|text|textbf|mathbf|mathrm|bf)\b|[*`~$€£¥({{\[{_BLANKS}\\])+\Z")
# Commands of LaTeX that may touch a number: what only sets or ends it.
_SET_BEFORE = (
    *("boxed", "fbox", "text", "textbf", "mathbf", "mathrm", "mbox", "bf", "left", "quad", "qquad"),
    *("displaystyle", "approx", "sim", "to", "rightarrow", "Rightarrow", "implies", "therefore"),
    *("textit", "emph", "underline", "item", "n"),
)
_COMMAND_BEFORE = re.compile(r"\\([A-Za-z]+)\s*(?:\[[^\]]*\])?[{\[(]*\Z")
_PART_BEFORE = re.compile(r"(?:[\^_]\{?|\}\s*\{|[\u221a\u221b\u00b1\u2213\u2264\u2265\u2260])\Z")
_COMMAND_BEHIND = re.compile(
    r"\\(?:[%$)\]\\;:! ,]|(?:text|textbf|mathrm|mbox|mathit|operatorname|rm|quad|qquad|right|circ"
    r"|degree|percent|dollars?|cents?|end|n|hline|hfill)(?![A-Za-z]))"
)
_POWER_OF_A_UNIT = re.compile(r"\^\{?\\circ")
# Words and letters that scale a number or go on with it.
_SCALED = re.compile(
    rf"[{_BLANKS}]*-?(?:(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore|tenth"
    r"|hundredth|thousandth)s?\b|(?:pi|squared|cubed|factorial|choose|mod|over|times|plus|minus"
    r"|point|divided|multiplied|to the)\b|and\s+(?:[0-9]+\s*/|(?:a|an|one|two|three|four|five)[\s-]"
    r"(?:half|third|quarter|fourth|fifth|sixth|eighth|tenth))|\u03c0)",
    re.IGNORECASE,
)
_SUFFIX = re.compile(r"(?:[kKMB]|bn|mn|mio|tn)\b(?!/)")
_MINUS = ("-", "\u2212")
# Far below the 4,300 digits that Python converts, also after 1/2**k has been written out.
_MAX_FRACTION_PART = 200
_MAX_EXPONENT_DIGITS = 9
_MAX_ZEROS = 40


def canonical(text: str, at_start: bool = False) -> str | None:
    """The first number in `text` in its one canonical spelling, None when there is none.

    Equal values have equal spellings, so comparing these strings compares exactly, without
    rounding and without converting digits: a million of them are no problem. A number that cannot
    be read with certainty (`1,00`, `1 000`, `3.5.2`, `1 1/2`, `1/0`, `5²`, `5*10^3`, `- 5`,
    `2 thousand`, `\\sqrt{16}`) is None, not its first part.
    With `at_start` only blanks may stand before the number.
    """
    return _first(text, at_start)[0]


def only(gold: str) -> str | None:
    """The number that a gold answer is: at its start, and no other one behind it; else None.

    `9 (apples)` is 9; of `3:30`, `10-15` and `3, 4` nobody can say which part is the answer.
    """
    value, end = _first(gold, True)
    rest = gold[end:]
    return None if _DIGIT.search(rest) or any(map(_is_foreign_digit, rest)) else value


def _first(text: str, at_start: bool) -> tuple[str | None, int]:
    """`canonical`, and where the number ends."""
    digit = _DIGIT.search(text)
    if digit is None:
        return None, 0
    lead = _FRACTION_LEAD.search(text[max(0, digit.start() - _LONGEST_LEAD) : digit.start()])
    if lead:
        begin = digit.start() - len(lead[0])
        found = _FRACTION.match(text, begin) or _FRACTION.match(text, begin + 1)
    else:
        # Finding the first digit alone is several times faster; what counts before it is short.
        found = _NUMBER.search(text, max(0, digit.start() - _LONGEST_PREFIX))
    if not found or (at_start and text[: found.start()].strip()):
        return None, 0
    if not _may_precede(text[max(0, found.start() - _LONGEST_LEAD) : found.start()], found["sign"]):
        return None, 0
    negative = (found["sign"] in _MINUS) != (found["inner"] in _MINUS)
    if lead:
        above, below = (part for part in found.groups()[2:] if part is not None)
        value, end = _ratio(_plain(above), _plain(below)), found.end()
    else:
        body = found["body"].rstrip(".,")
        value, end = _value(text, body, found.start("body") + len(body))
    if value is None or not _may_follow(text, end):
        return None, end
    return (f"-{value}" if negative and value != "0" else value), end


def _may_precede(before: str, sign: str | None) -> bool:
    """Whether a number may stand behind this: not as a power, an index, below a root, as a part of
    a fraction, or behind a dash that does not touch it."""
    if _is_foreign_digit(before[-1:]) or _PART_BEFORE.search(before):
        return False
    command = _COMMAND_BEFORE.search(before)
    if command and command[1] not in _SET_BEFORE:
        return False
    return bool(sign) or not _is_after_dash(_DRESS.sub("", before))


def _may_follow(text: str, end: int) -> bool:
    """Whether a number may end here: before the end, a blank, punctuation, a unit."""
    if _CONTINUED.match(text, end) or _SCALED.match(text, end) or _SUFFIX.match(text, end):
        return False
    behind = text[end : end + 1]
    if behind and behind in _BLANKS:  # what goes on with it does so behind a blank as well
        place = (
            end
            + len(text[end : end + _LONGEST_LEAD])
            - len(text[end : end + _LONGEST_LEAD].lstrip(_BLANKS))
        )
        goes_on = text[place : place + 1]
        return not (goes_on in ("\\", "^") or _computes(goes_on)) or _touches(text, place)
    return _touches(text, end)


def _touches(text: str, end: int) -> bool:
    """Whether what stands at `end` may touch a number."""
    behind = text[end : end + 1]
    if not behind:
        return True
    if behind == "\\":
        return _COMMAND_BEHIND.match(text, end) is not None
    if behind == "^":
        return _POWER_OF_A_UNIT.match(text, end) is not None
    return behind != "{" and not _is_foreign_digit(behind) and not _computes(behind)


def _computes(character: str) -> bool:
    """Whether a symbol is one of arithmetic: all of Unicode's but those that compare or enclose."""
    known = unicodedata.category(character) if character else ""
    return known == "Sm" and character not in "<>=|~\u2248\u2192"


def _is_after_dash(before: str) -> bool:
    """Whether a dash ends what stands before a number, and is no hyphen behind a word."""
    word = before[-2:-1].isalnum() or before[-2:-1] == "_"
    return bool(before) and before[-1] in _DASHES and not word


def _is_foreign_digit(character: str) -> bool:
    return character.isnumeric() and not character.isascii()


def _plain(body: str) -> str:
    """Digits with LaTeX's separators of thousands as commas."""
    return _THIN.sub(",", body)


def _value(text: str, body: str, end: int) -> tuple[str | None, int]:
    """The spelling of `body` with the denominator or exponent that follows, and its end."""
    if denominator := _DENOMINATOR.match(text, end):
        below = denominator[1].rstrip(".,")
        return _ratio(_plain(body), _plain(below)), denominator.start(1) + len(below)
    if exponent := _EXPONENT.match(text, end):
        digits = exponent[2].lstrip("0") or "0"
        if len(digits) > _MAX_EXPONENT_DIGITS:
            return None, exponent.end()
        shift = -int(digits) if exponent[1] in _MINUS else int(digits)
        return _decimal(body, shift), exponent.end()
    return _decimal(body, 0), end


def _decimal(body: str, shift: int) -> str | None:
    parts = _PLAIN.fullmatch(_plain(body))
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
