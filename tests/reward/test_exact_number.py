from __future__ import annotations

import gzip
import json
import random
import time
from fractions import Fraction
from pathlib import Path

import pytest

from latentbench.errors import InputError
from latentbench.reward.exact_number import ExactNumber, canonical

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LABELS = SHARED / "grader_cases" / "gsm8k_example_model_solutions.jsonl.gz"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")

# text, gold, reward
CASES = [
    # the plain layouts
    ("#18", "18", 1), ("### 18", "18", 1), ("<<9*2=18>>\n### 18", "18", 1), ("#### 18\n", "18", 1),
    ("#19", "18", 0), ("18", "18", 0), ("", "18", 0), ("#", "18", 0), ("# none", "18", 0),
    ("#180", "18", 0), ("#1 8", "18", 0), ("#18#", "18", 0), ("#18 #19", "18", 0),
    ("#19 #18", "18", 1), ("18 # 19", "18", 0), ("# 18 19", "18", 1), ("# 19 18", "18", 0),
    ("# is 18 eggs", "18", 1), ("#\n\n18", "18", 1), ("#18<eos>", "18", 1),
    # thousands
    ("#1,000", "1000", 1), ("#1000", "1,000", 1), ("#1,000,000", "1000000", 1), ("#1,00", "1", 0),
    ("#1,00", "100", 0), ("#1,0000", "1", 0), ("#1,0000", "10000", 0), ("#1000,000", "1000", 0),
    ("#1,2,3", "1", 0), ("#1,2,3", "123", 0), ("#1, 2", "1", 1), ("#1,", "1", 1),
    ("#1,000.50", "1000.5", 1), ("#1.000,50", "1", 0), ("#1 000", "1000", 0), ("#1_000", "1", 0),
    ("#1 000", "1", 0), ("#1\u00a0000", "1", 0), ("#1\u2009000", "1", 0), ("#1\u202f000", "1", 0),
    ("#1'000", "1", 0), ("#1\u2019000", "1", 0), ("#12 345 678", "12", 0), ("#5\n100", "5", 1),
    ("#5 1000", "5", 1), ("#5 10", "5", 1), ("#5'", "5", 1),
    # currency, percent, units
    ("#$18", "18", 1), ("# $ 18", "18", 1), ("#$1,000.00", "1000", 1), ("#€18", "18", 1),
    ("#18%", "18", 1), ("#18 %", "18", 1), ("#18.", "18", 1), ("#18.%", "18", 1),
    ("#18...", "18", 1),
    ("#18kg", "18", 1), ("#18 kg.", "18", 1), ("#18th", "18", 1), ("#18$", "18", 1),
    ("#18!", "18", 1),
    ("#(18)", "18", 1), ("#**18**", "18", 1), ("#\\$18", "18", 1), ("#\\boxed{18}", "18", 1),
    ("# x=18", "18", 1), ("#18)", "18", 1), ("#18/kg", "18", 1), ("#18, I think", "18", 1),
    # signs
    ("#-5", "-5", 1), ("#-5", "5", 0), ("#5", "-5", 0), ("#+5", "5", 1), ("#5", "+5", 1),
    ("#\u22125", "-5", 1), ("#-5", "\u22125", 1), ("#-$5", "-5", 1), ("#$-5", "-5", 1),
    ("#-$-5", "5", 1), ("# -5", "-5", 1), ("#x=-5", "-5", 1), ("#- 5", "5", 0),
    ("#- 5", "-5", 0), ("#--5", "-5", 1),
    ("#-  $5", "5", 0), ("#- $5", "-5", 0), ("#-(5)", "5", 0), ("#(-5)", "-5", 1),
    ("#x - 5", "5", 0), ("#\u20135", "5", 0), ("# \u2212 5", "5", 0), ("#- answer 5", "5", 1),
    ("#GPT-5", "5", 1), ("#3-5", "3", 1), ("#-0", "0", 1), ("#-0.00", "0", 1), ("#0", "-0", 1),
    # decimals
    ("#3.50", "3.5", 1), ("#3.5", "3.50", 1), ("#3.0", "3", 1), ("#03", "3", 1),
    ("#007.10", "7.1", 1),
    ("#.5", "0.5", 1), ("#-.5", "-0.5", 1), ("#0.5", ".5", 1), ("#...5", "5", 1), ("#No.5", "5", 1),
    ("#3.5.2", "3.5", 0), ("#3.5.2", "3", 0), ("#3..5", "3", 0), ("#3.", "3", 1), ("#.", "0", 0),
    ("#0.1000000000000000055511151231257827", "0.1", 0), ("#0.30000000000000004", "0.3", 0),
    ("#9007199254740993", "9007199254740992", 0), ("#33.333333", "33.33", 0),
    # fractions
    ("#2/5", "2/5", 1), ("#2/5", "0.4", 1), ("#0.4", "2/5", 1), ("#4/10", "2/5", 1),
    ("#2 / 5", "2/5", 1),
    ("#-2/5", "-0.4", 1), ("#10/5", "2", 1), ("#1/3", "2/6", 1), ("#0.3333333333", "1/3", 0),
    ("#2", "2/5", 0), ("#2/5", "2", 0), ("#1/0", "1", 0), ("#0/5", "0", 1), ("#0/0", "0", 0),
    ("#1/2/3", "1/2", 0), ("#1 1/2", "1", 0), ("#1.5/2", "0.75", 1), ("#2/5.", "0.4", 1),
    ("#1,000/2", "500", 1), ("#1/1,000", "0.001", 1), ("#2/", "2", 1), ("#2/x", "2", 1),
    ("#3/-4", "3", 0), ("#3/ -4", "3", 0), ("#3 / (4)", "3", 0), ("#3/.5", "3", 0),
    ("#1\u00a01/2", "1", 0), ("#3\u00a0/\u00a04", "3", 0), ("#3/", "3", 1), ("#3/-", "3", 1),
    # exponents, powers, times
    ("#5*10^3", "5", 0), ("#5*10^3", "5000", 0), ("#5 * 10", "5", 0), ("#5\u00d710", "5", 0),
    ("#5x10^3", "5", 0), ("#5\\times 10", "5", 0), ("#5 \\cdot 10", "5", 0), ("#5x", "5", 1),
    ("#5 * apples", "5", 1), ("#**5** 10", "5", 1),
    ("#1e3", "1000", 1), ("#1E3", "1", 0), ("#1.5e3", "1500", 1), ("#1e-3", "0.001", 1),
    ("#1e+3", "1000", 1), ("#1e999999", "1e999999", 1), ("#1e999999", "1e999998", 0),
    ("#1e99999999999999", "1", 0), ("#0e99", "0", 1), ("#5e", "5", 1), ("#5eggs", "5", 1),
    ("#2^3", "2", 0), ("#5:30", "5", 1), ("#1e3.5", "1000", 0),
    # not a number at all, and digits of other scripts
    ("#NaN", "0", 0), ("#nan", "nan", 0), ("#inf", "inf", 0), ("#Infinity", "1", 0),
    ("#None", "None", 0),
    ("#five", "5", 0), ("#\u00b2", "2", 0), ("#5\u00b2", "5", 0), ("#5\u00b2", "25", 0),
    ("#\u0663", "3", 0), ("#\u06635", "5", 0), ("#5\u0663", "5", 0), ("#\uff15", "5", 0),
    ("#5\u00bd", "5", 0), ("#\u00bd", "0.5", 0), ("#\u4e94", "5", 0), ("#\u2460", "1", 0),
    ("#\ud800 5", "5", 1), ("#\x00" + "5", "5", 1), ("#\u200b5", "5", 1),
    ("#5\ufe0f\u20e3", "5", 1),
    ("#5", "five", 0), ("#5", "", 0), ("#", "", 0), ("", "", 0), ("#5", "# 5", 0), ("#5", " 5 ", 1),
    ("#9", "9 (apples)", 1), ("#18", "18.", 1), ("#0.45", ".45", 1), ("#27", "27.0", 1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "gold", "reward"), CASES)
def test_cases(text: str, gold: str, reward: int) -> None:
    assert ExactNumber()(text, gold) == reward


def test_there_are_a_hundred_distinct_cases() -> None:
    assert len({(text, gold) for text, gold, _ in CASES}) >= 100


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("#1,000", "1000"), ("#$-3.50", "-3.5"), ("#-0", "0"), ("#2/5", "0.4"), ("#2/6", "1/3"),
        ("#-4/6", "-2/3"), ("#007", "7"), ("#.5", "0.5"), ("#1e50", "1e50"), ("#", None),
        ("5", None), ("#1/8", "0.125"), ("#100", "100"), ("#0.001", "0.001"), ("#12e-50", "12e-50"),
    ],
)  # fmt: skip
def test_extract_spells_canonically(text: str, spelling: str | None) -> None:
    assert ExactNumber().extract(text) == spelling


def test_equal_values_and_only_they_have_equal_spellings() -> None:
    generator = random.Random(0)
    spelt: dict[str, Fraction] = {}
    for _ in range(3000):
        above, below = generator.randint(-300, 300), generator.randint(1, 60)
        places = generator.randint(0, 4)
        for text in (f"{above}/{below}", f"{above / 10**places:.{places}f}"):
            value, spelling = Fraction(text), canonical(text)
            assert spelling is not None
            assert spelt.setdefault(spelling, value) == value
            assert canonical(spelling) == spelling
    assert len(set(spelt.values())) == len(spelt)


MILLION = 10**6
HUGE = [
    "9" * MILLION,
    "1" + "0" * (MILLION - 1),
    "0" * MILLION,
    "0." + "0" * (MILLION - 3) + "1",
    "-" * MILLION,
    "$" * MILLION,
    "-$" * (MILLION // 2),
    "." * MILLION,
    "1," * (MILLION // 2),
    "1" + ",000" * (MILLION // 4 - 1),
    ",000" * (MILLION // 4),
    "1." * (MILLION // 2),
    "1/" * (MILLION // 2),
    "9" * (MILLION // 2) + "/" + "7" * (MILLION // 2 - 1),
    "1 " + "9" * (MILLION // 2) + "/",
    "1e" + "9" * (MILLION - 2),
    "1e-" + "9" * (MILLION - 3),
    "e" * MILLION,
    " " * MILLION,
    "\u00b2" * MILLION,
    "\u0663" * MILLION,
    "#" * MILLION,
    "#1" * (MILLION // 2),
    "\n" * (MILLION - 1) + "7",
    "5" + "\u0000" * (MILLION - 1),
]


@pytest.mark.parametrize("body", HUGE, ids=lambda body: repr(body[:4]))
def test_a_million_characters_take_a_tenth_of_a_second(body: str) -> None:
    reward = ExactNumber()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        reward("#" + body, "7")
        times.append(time.perf_counter() - start)
    # the best of three: other processes share the cores
    assert min(times) < 0.1


def test_a_million_digits_are_compared_exactly() -> None:
    reward, digits = ExactNumber(), "123456789" * (MILLION // 9)
    assert reward("#" + digits, digits) == 1
    assert reward("#" + digits + "0", digits) == 0
    assert reward("#" + digits[:-1] + "8", digits) == 0
    assert reward("#1" + "0" * (MILLION - 1), f"1e{MILLION - 1}") == 1


def test_no_text_raises() -> None:
    generator = random.Random(1)
    alphabet = "0123456789.,+-/eE$%^_#<>= \n\u2212\u00b2\u0663\u00bd\ud800xN"
    reward = ExactNumber()
    for _ in range(20_000):
        text = "".join(generator.choices(alphabet, k=generator.randint(0, 12)))
        gold = "".join(generator.choices(alphabet, k=generator.randint(0, 6)))
        assert reward("#" + text, gold) in (0.0, 1.0)


def test_the_marker_is_a_knob() -> None:
    reward = ExactNumber(marker="A:")
    assert reward("A: 3 A: 4", "4") == 1
    assert reward("# 4", "4") == 0
    assert reward("A:", "4") == 0
    with pytest.raises(InputError, match=r"reward\.marker=''"):
        ExactNumber(marker="")


@pytest.mark.parametrize(
    "gold", ["18", "2/5", "-3", ".45", "18.", "1,000", "$5", "9 (apples)", "1e9"]
)
def test_gold_numbers_pass(gold: str) -> None:
    ExactNumber().check_gold(gold)
    assert ExactNumber()(f"#{gold}", gold) == 1


@pytest.mark.parametrize(
    "gold",
    ["", "five", "x = 3", "# 3", "1/0", "\u00b2", "1,00", "1 000", "5*10", "- 5", "\\frac{1}{0}"],
)
def test_gold_that_is_no_number_is_named(gold: str) -> None:
    with pytest.raises(InputError) as caught:
        ExactNumber().check_gold(gold)
    assert repr(gold) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not LABELS.is_file(), reason="the published labels are not here")
def test_all_published_labels() -> None:
    reward, labels, right = ExactNumber(marker="A:"), 0, 0
    with gzip.open(LABELS, "rt", encoding="utf-8") as rows:
        for row in map(json.loads, rows):
            gold = reward.extract(row["ground_truth"])
            assert gold is not None
            reward.check_gold(gold)
            for model in MODELS:
                found = reward(row[model]["solution"], gold)
                assert found == row[model]["is_correct"], row[model]["solution"]
                labels, right = labels + 1, right + int(found)
    assert (labels, right) == (5276, 2001)
