r"""What a number is: 170 strings of the kinds that models write, each a certain value or none."""

from __future__ import annotations

# ruff: noqa: RUF001 (strings of all scripts are what is tested)
import pytest

from latentbench.errors import InputError
from latentbench.reward._number import canonical
from latentbench.reward.exact_number import ExactNumber
from latentbench.reward.tolerance import Tolerance

VALUES = {
    # LaTeX that has a value for certain
    r"\frac{1}{2}": "0.5",
    r"\dfrac{1}{2}": "0.5",
    r"\tfrac{3}{4}": "0.75",
    r"\cfrac{3}{4}": "0.75",
    r"\frac12": "0.5",
    r"\frac 1 2": "0.5",
    r"\frac{1}2": "0.5",
    r"-\frac{1}{2}": "-0.5",
    r"\frac{-1}{2}": "-0.5",
    r"$\frac{1}{3}$": "1/3",
    r"\boxed{\frac{1}{2}}": "0.5",
    r"x = \frac{1}{2}": "0.5",
    r"\frac{1,000}{4}": "250",
    r"\frac{1.5}{3}": "0.5",
    r"9{,}500": "9500",
    r"1{,}234{,}567": "1234567",
    r"9\,500": "9500",
    r"1\,234\,567": "1234567",
    r"9\;500": "9500",
    r"9\ 500": "9500",
    r"9\!500": "9500",
    r"9{,}500.50": "9500.5",
    r"\boxed{9{,}500}": "9500",
    r"\$9{,}500": "9500",
    r"\$18": "18",
    r"18\%": "18",
    r"18 \%": "18",
    r"\boxed{18}": "18",
    r"\boxed{-18}": "-18",
    r"\(18\)": "18",
    r"\[ 18 \]": "18",
    r"\text{18}": "18",
    r"18\text{ eggs}": "18",
    r"18\,\text{eggs}": "18",
    r"18 \text{ eggs}": "18",
    r"18^\circ": "18",
    r"18^{\circ}": "18",
    r"18\circ": "18",
    r"18\mathrm{kg}": "18",
    r"\mathbf{18}": "18",
    r"\boxed{\text{18}}": "18",
    r"\approx 18": "18",
    r"18\\": "18",
    r"18 \quad": "18",
    # units, currency, per cent, marks
    "18 kg": "18",
    "18kg": "18",
    "18 eggs": "18",
    "$18": "18",
    "18$": "18",
    "$ 18": "18",
    "€18": "18",
    "18€": "18",
    "£18": "18",
    "18%": "18",
    "18 %": "18",
    "18 percent": "18",
    "18°": "18",
    "18°C": "18",
    "18.": "18",
    "18!": "18",
    "18?": "18",
    "18:": "18",
    "18;": "18",
    "(18)": "18",
    "[18]": "18",
    '"18"': "18",
    "'18'": "18",
    "18'": "18",
    "**18**": "18",
    "*18*": "18",
    "`18`": "18",
    "_18_": None,
    "~18": "18",
    "≈18": "18",
    "=18": "18",
    "= 18": "18",
    "x=18": "18",
    "<b>18</b>": "18",
    "18<eos>": "18",
    "18th": "18",
    "1st": "1",
    "18 (eggs)": "18",
    "18(eggs)": "18",
    "18/kg": "18",
    "18 per day": "18",
    "18 dollars and 5 cents": "18",
    "18, I think": "18",
    "18 or so": "18",
    "18 个": "18",
    "18個": "18",
    "**-18**": "-18",
    "-18": "-18",
    "\u221218": "-18",
    "-$18": "-18",
    "$-18": "-18",
    "(-18)": "-18",
    "GPT-5": "5",
    "1,000": "1000",
    "1,000,000": "1000000",
    "1e3": "1000",
    "1.5e-3": "0.0015",
    "18 - done": "18",
    "18 minutes": "18",
    "18 millimetres": "18",
    "18 tons": "18",
    "18 points": "18",
    "18 overall": "18",
    "18 timeslots": "18",
    "18 kids": "18",
    "18 Bob": "18",
    "18 M&Ms": "18",
    # what follows or precedes makes it something else
    r"\sqrt{16}": None,
    r"\sqrt 16": None,
    r"\sqrt[3]{8}": None,
    r"2\sqrt{3}": None,
    "√16": None,
    "2√3": None,
    r"2\pi": None,
    r"2 \pi": None,
    "2π": None,
    "2 π": None,
    "2 pi": None,
    "2*pi": "2",
    "2**3": None,
    "2 ** 3": None,
    "2^3": None,
    "10^{2}": None,
    "10^2": None,
    "2 ^ 3": None,
    r"x^{2}": None,
    "x^2": None,
    r"x_1": None,
    r"x_{1}": None,
    r"\log_2 8": None,
    r"\log 8": None,
    r"10^{\circ}": "10",
    r"5 \times 10^3": None,
    r"5\cdot 10": None,
    "5×10": None,
    "5 · 10": None,
    "5*10": None,
    "5 x 10": None,
    "3(4)": None,
    "3(-4)": None,
    r"3(\pi)": None,
    "3+4": None,
    "3 + 4": None,
    "±5": None,
    "5±1": None,
    "5 ± 1": None,
    "≤5": None,
    "≥ 5": "5",
    "≠5": None,
    r"\pm 5": None,
    r"1\frac{1}{2}": None,
    r"1 \frac{1}{2}": None,
    "1 1/2": None,
    "1 and 1/2": None,
    "1 and a half": None,
    "1 and one-half": None,
    "1\u20442": None,
    "1 1\u20442": None,
    "1½": None,
    "½": None,
    "5²": None,
    "2 thousand": None,
    "2 Thousand": None,
    "2 million": None,
    "2.5 billion": None,
    "3 hundred": None,
    "2-million": None,
    "2 dozen": None,
    "5 tenths": None,
    "2k": None,
    "2K": None,
    "2M": None,
    "2B": None,
    "2bn": None,
    "$2M": None,
    "5 squared": None,
    "5 times 3": None,
    "1 over 2": None,
    "5 plus 3": None,
    "3 point 5": None,
    "5 divided by 2": None,
    r"\frac{x}{2}": None,
    r"\frac{\sqrt{3}}{2}": None,
    r"\frac{1}{x}": None,
    r"\frac{1}{2}\pi": None,
    r"\frac{1}{0}": None,
    r"-\frac{-1}{2}": "0.5",
    r"9{,}50": None,
    r"9\,50": None,
    r"5{": None,
    "1,00": None,
    "1 000": None,
    "1'000": None,
    "1_000": None,
    "1.000,50": None,
    "3.5.2": None,
    "3/-4": None,
    "1/2/3": None,
    "٥": None,
    "５": None,
    # a dash that does not touch the number, however it is dressed up
    "- 5": None,
    "- **5**": None,
    "-**5**": None,
    "- $5": None,
    r"- \boxed{5}": None,
    "- (5)": None,
    "– 5": None,
    "\u2212 5": None,
    "-  *5*": None,
    r"- \$5": None,
    "- `5`": None,
    "- answer: 5": "5",
}


@pytest.mark.parametrize("text", VALUES)
def test_a_number_is_certain_or_none(text: str) -> None:
    assert canonical(text) == VALUES[text]


def test_there_are_enough_of_them() -> None:
    assert len(VALUES) >= 170
    assert sum(value is None for value in VALUES.values()) >= 80


SEVERAL = (
    *(
        "3:30",
        "10-15",
        "10 - 15",
        "3, 4",
        "3 or 4",
        "1/2 and 3",
        "5 feet 4 inches",
        "2x3",
        "(1, 2)",
    ),
    *("1,2", "3 (4 left)", "1 1/2", "1 and 1/2", "2^3", "5 km²", "3½", "10 %, 20 %", "12/25/2020"),
)


@pytest.mark.parametrize("gold", SEVERAL)
@pytest.mark.parametrize("reward", [ExactNumber(), Tolerance()])
def test_a_gold_is_one_value_to_its_end(gold: str, reward: ExactNumber | Tolerance) -> None:
    """No text matches another gold, not even its own."""
    with pytest.raises(InputError, match=r"gold answer .*exact_string"):
        reward.check_gold(gold)
    for text in ("#3", "#3:45", "#10-12", "#10", f"#{gold}"):
        assert reward(text, gold) == 0.0


@pytest.mark.parametrize("gold", ["9 (apples)", "18.", "$5", r"\frac{1}{2}", "9{,}500", "18 kg"])
def test_a_gold_with_its_unit_is_one_value(gold: str) -> None:
    ExactNumber().check_gold(gold)
    assert ExactNumber()(f"#{gold}", gold) == 1.0


@pytest.mark.parametrize("gold", ["1000000001", "-9284017268534", "12345678901234", "5e12", "4e15"])
def test_a_whole_gold_is_missed_by_one(gold: str) -> None:
    """Whatever the tolerance, in its published form or a looser one."""
    whole = int(float(gold))
    for reward in (Tolerance(), Tolerance(relative=1e-3), Tolerance(absolute=2.0)):
        assert reward(f"#{whole}", gold) == 1.0
        assert reward(f"#{whole + 1}", gold) == reward(f"#{whole - 1}", gold) == 0.0
        assert reward(f"#{whole}.25", gold) == 1.0
