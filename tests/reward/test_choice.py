from __future__ import annotations

import pytest

from latentbench.errors import InputError
from latentbench.reward.choice import Choice

# text after the marker, the letter it names
LETTERS = [
    ("A", "A"), (" B", "B"), ("(C)", "C"), ("( D )", "D"), ("A.", "A"), ("A)", "A"), ("B:", "B"),
    ("**C**", "C"), ("`D`", "D"), ("[A]", "A"), ('"B"', "B"), ("'C'", "C"), ("$D$", "D"),
    ("{A}", "A"),
    ("\\boxed{B}", "B"), ("\\boxed{\\text{C}}", "C"), ("$\\boxed{\\textbf{(D)}}$", "D"),
    ("\\mathrm{A}", "A"), ("answer: B", "B"), ("The answer is C.", "C"),
    ("the correct option is (D)", "D"),
    ("Option A", "A"), ("choice B", "B"), ("Final answer: **C**", "C"), ("= D", "D"), ("- A", "A"),
    ("A because B is wrong", "A"), ("A (not B)", "A"), ("B\nA", None), ("A\n\nthe rest", "A"),
    ("A. 12 m", "A"), ("D) none of these", "D"), ("\n\n  C\n", "C"), ("A<eos>", "A"), ("C!", "C"),
    # none
    ("", None), (" ", None), ("E", None), ("a", None), ("b", None), ("1", None), ("AB", None),
    ("ABCD", None),
    ("Because", None), ("Apples", None), ("A1", None), ("A_", None), ("BA", None), ("none", None),
    ("not A", None), ("none of A", None), ("I think A", None), ("neither A nor B", None),
    ("E, so A", None), ("x A", None), ("?", None), ("answer", None), ("the", None), ("isA", None),
    ("theA", None), ("\\boxed{}", None), ("\\boxedA", None), ("5 A", None), (". A", None),
    # more than one
    ("A or B", None), ("A, B", None), ("A and B", None), ("A/B", None), ("A B", None),
    ("A|B", None),
    ("(A) or (B)", None), ("A and/or B", None), ("**A** & **B**", None), ("A, B, C, D", None),
    ("A; C", None), ("A+B", None), ("A or\nB", None), ("A A", None),
    ("\\boxed{A} \\boxed{B}", None), ("A vs B", None), ("A vs. B", None), ("A versus B", None),
    ("A-B", None), ("A - B", None), ("A\u2013B", None), ("\\(A\\) or \\(B\\)", None),
    ("A - the first", "A"), ("A vs the rest", "A"),
    # inline and display mathematics
    ("\\(A\\)", "A"), ("\\[ B \\]", "B"), ("\\(\\boxed{C}\\)", "C"), ("is \\(\\text{D}\\).", "D"),
    # other scripts and marks
    ("\u0410", None), ("\u0391", None), ("\uff21", None), ("\u24b6", None), ("A\u0301", "A"),
    ("\u202eA", None), ("\u200bA", None), ("\ud800A", None), ("\x00A", None), ("A\u00e9", None),
    ("A\u0430", None), ("\u00a0A", "A"), ("\u2003B", "B"),
    # only the first 200 characters are looked at
    ("(" * 199 + "A", "A"), ("(" * 200 + "A", None), (" " * 5000 + "A", "A"),
]  # fmt: skip


@pytest.mark.parametrize(("tail", "letter"), LETTERS)
def test_letters(tail: str, letter: str | None) -> None:
    reward = Choice()
    assert reward.extract(f"thinking A B #{tail}") == letter
    for gold in "ABCD":
        assert reward(f"thinking A B #{tail}", gold) == (gold == letter)


def test_the_last_marker_counts_and_is_needed() -> None:
    assert Choice()("#A #B", "B") == 1 and Choice()("#A #B", "A") == 0
    assert Choice()("A", "A") == 0
    assert Choice(marker="\\boxed{")("so \\boxed{\\text{C}}", "C") == 1
    assert Choice(marker="answer is")("the answer is (D).", "D") == 1


WORDS = [
    ("True", "True"), ("False", "False"), ("true", "True"), ("FALSE.", "False"),
    ("is true", "True"),
    ("\\boxed{True}", "True"), ("Truely", None), ("Untrue", None), ("not True", None), ("T", None),
    ("True or False", None), ("true/false", None), ("", None), ("Fal\u017fe", None), ("yes", None),
    ("True, Stella is floral", "True"),
]  # fmt: skip


@pytest.mark.parametrize(("tail", "word"), WORDS)
def test_words_in_any_case(tail: str, word: str | None) -> None:
    reward = Choice(choices=["True", "False"], any_case=True)
    if tail == "Fal\u017fe":  # the long s is an s in any case
        word = "False"
    assert reward.extract(f"### {tail}") == word
    assert reward(f"### {tail}", "False") == (word == "False")


def test_case_counts_unless_told() -> None:
    reward = Choice(choices=["True", "False"])
    assert reward("#true", "True") == 0 and reward("#True", "True") == 1


def test_a_choice_may_be_a_lead_in_word_several_words_or_marks() -> None:
    assert Choice(choices=["right", "wrong"])("#right", "right") == 1
    assert Choice(choices=["not sure", "sure"])("#not sure", "not sure") == 1
    assert Choice(choices=["A+", "A"])("#A+", "A+") == 1
    assert Choice(choices=["A", "AB"])("#AB", "AB") == 1


def test_gold_answers() -> None:
    for gold in ("A", "(B)", " C ", "D."):
        Choice().check_gold(gold)
        assert Choice()(f"#{gold}", gold) == 1
    for gold in ("", "E", "a", "A or B", "42"):
        with pytest.raises(InputError, match="gold answer"):
            Choice().check_gold(gold)
        assert Choice()("#A", gold) == 0


@pytest.mark.parametrize("choices", [[], ["A"], ["A", "A"], ["A", ""], ["A", " B"]])
def test_bad_choices_are_named(choices: list[str]) -> None:
    with pytest.raises(InputError, match=r"reward\.choices="):
        Choice(choices=choices)
    with pytest.raises(InputError, match=r"reward\.choices="):
        Choice(choices=["true", "True"], any_case=True)
