from __future__ import annotations

import gzip
import json
import math
from fractions import Fraction
from pathlib import Path

import pytest

from latentbench.errors import InputError
from latentbench.reward.tolerance import Tolerance

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
GSM_HARD = SHARED / "gsm_hard" / "test.jsonl.gz"

# text, gold, reward at a relative tolerance of 1e-9
CASES = [
    ("#5", "5.0", 1), ("#5.0", "5", 1), ("#5", "6", 0), ("5", "5", 0), ("", "5", 0), ("#", "5", 0),
    ("#-9867630", "-9867630.0", 1), ("#9867630", "-9867630.0", 0), ("#-5", "5", 0),
    ("#9,867,630", "9867630.0", 1), ("#$9,867,630.00", "9867630.0", 1), ("#\u22125", "-5.0", 1),
    # float64 noise of a program
    ("#3244047.1", "3244047.0999999996", 1), ("#388147.4117647059", "388147.4117647059", 1),
    ("#388147.411765", "388147.4117647059", 1), ("#388147.41", "388147.4117647059", 0),
    ("#0.30000000000000004", "0.3", 1), ("#1/3", "0.3333333333333333", 1),
    ("#0.3333333333", "0.3333333333333333", 1), ("#0.333333", "0.3333333333333333", 0),
    # an integer that is off by one is wrong up to a thousand million
    ("#4933829", "4933828.0", 0), ("#999999998", "999999999.0", 0),
    ("#9284017268534.4", "9284017268534.4", 1), ("#9284017268534", "9284017268534.4", 1),
    ("#9284017278534", "9284017268534.4", 0),
    # small targets: relative, so that 0 and a thousandth are wrong
    ("#5.158e-07", "5.158e-07", 1), ("#0.0000005158", "5.158e-07", 1), ("#0", "5.158e-07", 0),
    ("#0.001", "5.158e-07", 0), ("#5.159e-07", "5.158e-07", 0),
    # zero needs zero
    ("#0", "0.0", 1), ("#-0", "0", 1), ("#0.0", "-0.0", 1), ("#1e-300", "0", 0),
    ("#0", "1e-300", 0),
    # beyond float64, and not numbers
    ("#1e308", "1e308", 1), ("#-1e308", "1e308", 0), ("#1e309", "1e309", 0), ("#1e999", "1e308", 0),
    ("#1e308", "1e999", 0), ("#-1e999", "-1e999", 0), ("#inf", "inf", 0), ("#nan", "nan", 0),
    ("#Infinity", "1e308", 0), ("#NaN", "0", 0), ("#1/0", "1", 0), ("#five", "5", 0),
    ("#1e999999999", "5", 0), ("#1e-999999999", "5", 0), ("#1e-999999999", "0", 1),
    ("#" + "9" * 200 + "/3", "3" * 200, 1), ("#9" + "0" * 400, "9" + "0" * 400, 0),
    # read as exact_number reads
    ("#5 or 6", "5", 1), ("#3.5.2", "3.5", 0), ("#1,00", "100", 0), ("#\u0665", "5", 0),
    ("#5\u00b2", "5", 0), ("#5%", "5", 1), ("#5 kg", "5", 1), ("#4 #5", "5", 1),
    ("#\ud8005", "5", 1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "gold", "reward"), CASES)
def test_cases(text: str, gold: str, reward: int) -> None:
    assert Tolerance()(text, gold) == reward


@pytest.mark.parametrize("gold", [4933828.25, -0.1, 1e-7, 3300000000000.25])
@pytest.mark.parametrize("relative", [1e-3, 1e-9, 0.0])
def test_the_edge_lies_where_the_formula_says(gold: float, relative: float) -> None:
    """Computed in exact arithmetic: just inside and just outside, on both sides."""
    reward = Tolerance(relative=relative)
    width = Fraction(relative) * abs(Fraction(gold))
    for sign in (1, -1):
        for share, expected in ((Fraction(99, 100), 1), (Fraction(101, 100), 0)):
            x = float(Fraction(gold) + sign * share * width)
            inside = abs(Fraction(x) - Fraction(gold)) <= width
            assert inside == bool(expected) or relative == 0.0
            assert reward(f"#{x!r}", repr(gold)) == (1 if inside else 0)


def test_the_absolute_tolerance_is_a_floor_and_gives_the_official_protocol() -> None:
    official = Tolerance(relative=0.0, absolute=1e-3)
    assert official("#388147.4121", "388147.4117647059") == 1
    assert official("#388147.41", "388147.4117647059") == 0
    assert official("#0", "5.158e-07") == 1 and official("#0.0009", "0") == 1
    assert official("#0.0011", "0") == 0
    assert Tolerance(absolute=1e-6)("#1e-7", "0") == 1


def test_bad_knobs_are_named() -> None:
    bad = {"relative": -1e-9}, {"relative": math.nan}, {"absolute": math.inf}, {"marker": ""}
    for knobs in bad:
        with pytest.raises(InputError, match=rf"reward\.{next(iter(knobs))}="):
            Tolerance(**knobs)  # type: ignore[arg-type]


@pytest.mark.parametrize("gold", ["", "five", "inf", "nan", "1e999", "-1e400", "1/0", "9" * 400])
def test_gold_that_is_no_finite_number_is_named(gold: str) -> None:
    with pytest.raises(InputError, match="gold answer"):
        Tolerance().check_gold(gold)


@pytest.mark.skipif(not GSM_HARD.is_file(), reason="GSM-Hard is not here")
def test_gsm_hard() -> None:
    """All 923 targets are gradable; the target itself is right, its neighbours are wrong."""
    reward, integers, large = Tolerance(), 0, 0
    with gzip.open(GSM_HARD, "rt", encoding="utf-8") as rows:
        targets = [json.loads(row)["target"] for row in rows]
    for target in targets:
        gold = repr(target)
        reward.check_gold(gold)
        assert reward(f"#{gold}", gold) == 1
        assert reward(f"#{target:.12g}", gold) == 1
        assert reward(f"#{-target!r}", gold) == (target == 0)
        if target == int(target):
            integers += 1
            assert reward(f"#{int(target)}", gold) == 1
            large += abs(target) >= 1e9  # where 1e-9 of it would let the next integer pass
            assert reward(f"#{int(target) + 1}", gold) == reward(f"#{int(target) - 1}", gold) == 0
    assert (len(targets), integers, large) == (923, 715, 16)
