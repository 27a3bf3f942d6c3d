from __future__ import annotations

import gzip
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from latentbench.analysis.stats import maj_at_n
from latentbench.errors import InputError
from latentbench.reward import _math_client
from latentbench.reward._math_client import MathClient, math_client
from latentbench.reward.math_verify import MathVerify

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
REWARDS = SHARED / "grader_cases" / "math_answers_sample_cases.jsonl.gz"
SERVER = Path(_math_client.__file__).with_name("_math_server.py")
# Verdicts are tested without hurry; what happens at the limit has tests of its own.
PATIENT = MathVerify(seconds=5.0)

# gold, answer in a box, reward
BOXED = [
    # numbers as they are written
    ("4", "4", 1), ("4", "4.0", 1), ("4", "4.", 1), ("4", "4,", 1), ("4", "04", 1), ("4", "+4", 1),
    ("4", "-4", 0), ("-4", "-4", 1), ("-4", "\u22124", 1), ("4", "-(-4)", 1), ("4", "--4", 1),
    ("4", "5", 0), ("4", "44", 0), ("4", "4.001", 0), ("4", "3.9999999", 0), ("4", "4.00000001", 0),
    ("-0.5", "-.5", 1), (".5", "0.5", 1), ("0", "-0", 1), ("0", "0.0", 1), ("0", "1e-27", 0),
    ("9007199254740993", "9007199254740992", 0), ("9007199254740993", "9007199254740993", 1),
    ("0.1", "0.10000000001", 1), ("6.000004816", "6.000005", 1), ("4", "", 0), ("4", " ", 0),
    # thousands
    ("1234", "1,234", 1), ("1,234", "1234", 1), ("1234", "1{,}234", 1), ("1234", "1\\,234", 1),
    ("1234", "1\\ 234", 1), ("1234", "1 234", 1), ("235", "1 234", 0), ("235", "1\\,234", 0),
    ("11,\\! 111,\\! 100,\\! 000", "11111100000", 1), ("10{,}000", "10 000", 1),
    ("\\$32,\\!500", "32500", 1), ("58,500", "58500", 1), ("58,500", "58,501", 0),
    # scientific notation, tiny and huge
    ("1500", "1.5e3", 1), ("1.5e3", "1500", 1), ("4", "4e0", 1), ("4", "40e-1", 1),
    ("4.5e33", "4.5\\times 10^{33}", 1), ("4.5e33", "4.5e32", 0), ("1e999", "1e999", 1),
    ("1e999", "1e998", 0), ("2.88 \\times 10^{-19}", "2.88e-19", 1),
    ("2.88 \\times 10^{-19}", "1.325 \\times 10^{-27}", 0), ("1e-27", "0", 0), ("4", "1e999", 0),
    ("x=1e-9", "x=2e-9", 0), ("2.88e-19", "2.88 \\cdot 10^{-19}", 1),
    # fractions, mixed numbers, ratios
    ("4", "\\frac{8}{2}", 1), ("4", "\\dfrac{8}{2}", 1), ("4", "\\tfrac{8}{2}", 1),
    ("4", "\\frac82", 1), ("4", "8/2", 1), ("0.4", "2/5", 1), ("0.4", "\\frac25", 1),
    ("0.4", "0,4", 0), ("\\frac{1}{3}", "0.333333", 1), ("\\frac{1}{3}", "0.33", 0),
    ("\\frac{1}{3}", "0.33333", 0), ("0.333", "\\frac{1}{3}", 0),
    ("1\\frac{1}{2}", "\\frac{3}{2}", 1),
    ("1\\frac{1}{2}", "1.5", 1), ("\\frac32", "1\\frac12", 1),
    ("-\\frac{1}{2}", "\\frac{-1}{2}", 1),
    ("-\\frac{1}{2}", "\\frac{1}{-2}", 1), ("-\\frac{1}{2}", "\\frac{1}{2}", 0),
    ("3:4", "3/4", 1), ("3:4", "4:3", 0), ("12:30", "12:31", 0),
    ("4", "\\frac{4}{}", 0), ("4", "\\frac{}{}", 0), ("4", "\\frac", 0), ("4", "\\frac{4", 0),
    ("1", "0/0", 0), ("0", "\\frac{0}{0}", 0), ("\\frac{1}{0}", "\\infty", 0), ("4", "1/0", 0),
    # percent, currency, units, degrees: what follows a number does not count
    ("50\\%", "50", 1), ("50", "50\\%", 1), ("50", "50%", 1), ("50\\%", "0.5", 0),
    ("4", "400\\%", 0),
    ("4", "\\$4", 1), ("4", "$4$", 1), ("4", "\\(4\\)", 1), ("12", "\\$12.00", 1),
    ("4", "4 \\text{ cm}", 1), ("4", "4 cm", 1), ("4", "4\\ \\mathrm{cm}", 1), ("4", "4 eggs", 0),
    ("12 \\text{ m}^2", "12", 1), ("12\\text{ dollars}", "12", 1), ("5.4 \\text{ cents}", "5.4", 1),
    ("90^\\circ", "90", 1), ("90", "90^{\\circ}", 1), ("90^\\circ", "91^\\circ", 0),
    # signs around an answer
    ("4", "x=4", 1), ("x=4", "4", 1), ("4", "= 4", 1), ("4", "n=m=4", 1), ("4", "4=5", 0),
    ("4", "(4)", 1), ("4", "{4}", 1), ("4", "\\left(4\\right)", 1), ("4", "\\text{4}", 1),
    ("4", "\\mathbf{4}", 1), ("4", "\\displaystyle 4", 1), ("4", "\\quad 4 \\quad", 1),
    ("4", "~4~", 1), ("4", "4\\\\", 1), ("4", "4\\text{.}", 1), ("4", "\n4\n", 1),
    ("4", "\\approx 4", 0), ("4", "\\neq 4", 0), ("4", "\\ge 4", 0), ("4", "> 3", 0),
    ("4", "x \\neq 4", 0),
    # hedges and more than one answer
    ("4", "4 or 5", 0), ("4", "4 \\text{ or } 5", 0), ("4", "4, 5", 0), ("4", "5, 4", 0),
    ("4", "\\{4,5\\}", 0), ("4", "\\pm 4", 0), ("4", "[4,5]", 0), ("4", "I think 4", 0),
    ("4", "\\text{There are 4}", 0), ("4", "I do not know, maybe 4", 0), ("4", "5 \\times 4", 0),
    # arithmetic is carried out
    ("4", "2+2", 1), ("4", "2^2", 1), ("4", "\\sqrt{16}", 1), ("4", "2\\sqrt{4}", 1),
    ("4", "\\log_2 16", 1), ("4", "\\gcd(8,12)", 1), ("4", "\\max(3,4)", 1), ("4", "|{-4}|", 1),
    ("4", "\\lceil 3.2 \\rceil", 1), ("4", "\\sum_{i=1}^{4} 1", 1), ("4", "64^{\\frac13}", 1),
    ("5!", "120", 1), ("\\binom{5}{2}", "10", 1), ("1024", "2^{10}", 1), ("2\\cdot 3", "6", 1),
    ("4", "4i", 0), ("4", "4+0i", 1), ("2+3i", "3i+2", 1), ("i", "2i", 0), ("4", "4!", 0),
    # roots, pi, infinity
    ("9\\sqrt2", "9 \\sqrt{2}", 1), ("9\\sqrt2", "18", 0), ("\\sqrt{12}", "2\\sqrt{3}", 1),
    ("\\sqrt[3]{8}", "2", 1), ("\\frac{1}{\\sqrt3}", "\\frac{\\sqrt3}{3}", 1),
    ("\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}", 1), ("\\sqrt{2}", "1.4142", 0),
    ("2\\pi", "\\pi+\\pi", 1), ("\\pi", "3.14159", 0), ("\\pi", "3.141592653589793", 1),
    ("\\pi/2", "\\frac{\\pi}{2}", 1), ("\\infty", "\\infty", 1), ("\\infty", "-\\infty", 0),
    ("\\infty", "1e999", 0), ("0", "nan", 0), ("0", "NaN", 0),
    # expressions and equations
    ("x^2+2x+1", "(x+1)^2", 1), ("x^2+2x+1", "x(x+2)+1", 1), ("x^2+2x+1", "x^2+2x", 0),
    ("p-q", "-q+p", 1), ("a-b", "b-a", 0), ("x", "y", 0), ("\\frac{x}{2}", "0.5x", 1),
    ("(x+1)(x-1)", "x^2-1", 1), ("y=2x+1", "2x+1", 1), ("2x+1", "y=2x+1", 1),
    ("y=x+1", "y-x=1", 1), ("y=x+1", "y=x+2", 0), ("x=1", "x=2", 0), ("f(x)=x+1", "x+1", 1),
    ("\\sin^2x+\\cos^2x", "1", 1), ("4", "x+4", 0), ("4", "4x", 0),
    # tuples, sets, intervals, inequalities, matrices
    ("(1,2)", "(1, 2)", 1), ("(1,2)", "(2,1)", 0), ("(1,2)", "[1,2]", 0), ("(1,2)", "(1,2]", 0),
    ("(1,2,3)", "(1,2,3)", 1), ("(1,2,3)", "(3,2,1)", 0), ("\\{1,2\\}", "\\{2,1\\}", 1),
    ("\\{1,2\\}", "2,1", 1), ("1,2", "1 \\text{ and } 2", 1), ("\\{1,2,3\\}", "\\{1,2\\}", 0),
    ("\\{1,2\\}", "\\{1,2,3\\}", 0), ("[0,1)", "[0,1)", 1), ("[0,1)", "(0,1)", 0),
    ("x \\in [0,1)", "[0,1)", 1), ("(-\\infty,2]", "(-\\infty, 2]", 1),
    ("(-\\infty,2]", "(-\\infty,2)", 0),
    ("(-\\infty,1)\\cup(2,\\infty)", "(2,\\infty)\\cup(-\\infty,1)", 1),
    ("\\emptyset", "\\{\\}", 1),
    ("x<3", "3>x", 1), ("x\\le 3", "x<3", 0), ("x=1, y=2", "y=2, x=1", 1),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\pi/2)", 1),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{bmatrix}1\\\\2\\end{bmatrix}", 1),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1&2\\\\4&3\\end{pmatrix}", 0),
    # words and letters
    ("\\text{Evelyn}", "Evelyn", 1), ("\\text{Evelyn}", "\\text{evelyn}", 1),
    ("\\text{Evelyn}", "\\text{Eve}", 0), ("\\text{even}", "\\text{odd}", 0),
    ("C", "\\text{C}", 1), ("C", "(C)", 1), ("C", "B", 0), ("\\text{(C)}", "C", 1),
    ("192", "B", 0), ("\\text{Yes}", "yes", 1), ("\\text{Yes}", "No", 0), ("4", "four", 0),
    ("4", "IV", 0),
    # other scripts, invisible marks, surrogates
    ("4", "\u0664", 0), ("4", "\uff14", 0), ("4", "\u00b2", 0), ("4", "4\u00b2", 0),
    ("2", "\u2161", 0), ("4", "\ud800", 0), ("4", "\x00", 0), ("4", "\u202e", 0),
    ("4", "\u200b", 0),
    ("0.5", "\u00bd", 0), ("4", "\u56db", 0), ("4", "\u0664\u0664", 0),
    # unfinished LaTeX
    ("4", "\\left(4", 0), ("4", "\\sqrt", 0), ("4", "\\sqrt{}", 0), ("4", "\\", 0), ("4", "^", 0),
    ("4", "_", 0), ("4", "&", 0), ("4", "\\begin{pmatrix}4", 0), ("4", "{}", 0), ("4", "\\{\\}", 0),
    ("4", "4-", 0), ("4", "0x4", 0), ("4", "0b100", 0), ("4", "**4**", 0),
]  # fmt: skip

# text, answer
EXTRACTED = [
    (r"so \boxed{4}.", "4"), (r"\boxed{3} then \boxed{4}", "4"), (r"\boxed{\boxed{4}}", "4"),
    (r"\boxed{\frac{1}{2}}", "0.5"), (r"\boxed{\{1,2\}}", r"\{1,2\}"),
    (r"\boxed {4}", "4"), (r"\fbox{4}", "4"), (r"\boxed{4} # 5", "4"), (r"# 5 \boxed{4}", "4"),
    (r"\boxed{\left\{1}", r"\{1"), (r"\boxed{\frac{1}{2}", None), (r"\boxed{4", None),
    (r"\boxed{3} \boxed{4", None), (r"\boxed{3} \boxed{4 # 5", "5"), (r"\boxed{}", None),
    (r"\boxed{ }", None), (r"\boxed", None), (r"\boxed 4", None), (r"\boxedx{4}", None),
    ("4", None), ("", None), ("#", None), ("# 4", "4"), ("### 4\nand more", "4"), ("#\n\n4\n", "4"),
    ("# 3 # 4", "4"), ("# $4$.", "4"), (r"# \(4\)", "4"), ("# 1,000", "1000"),
    ("# 1{,}000", "1000"), ("# 4}{5", None),
    ("# }4{", None), (r"# \frac{1}{2}", "0.5"), ("# 1.5e3", "1500"),
    (r"\boxed{5\%}", "5"), (r"\boxed{$5}", "5"), (r"\boxed{" + "1" * 400 + "}", "1" * 400),
    (r"\boxed{" + "1" * 401 + "}", None), ("# " + "1" * 400, "1" * 400), ("# " + "1" * 401, None),
    (r"\boxed{" * 1000, None), ("}" * 1000 + "# 4", "4"), (r"\boxed{{{{4}}}}", "4"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer", "reward"), BOXED)
def test_boxed_answers(gold: str, answer: str, reward: int) -> None:
    assert PATIENT(f"so the answer is \\boxed{{{answer}}}", gold) == reward


def test_there_are_two_hundred_distinct_cases() -> None:
    assert len({(gold, answer) for gold, answer, _ in BOXED}) >= 200


@pytest.mark.parametrize(("text", "answer"), EXTRACTED)
def test_extraction(text: str, answer: str | None) -> None:
    assert MathVerify().extract(text) == answer


# Spellings of one answer, each of which is one vote.
VOTES = [
    [r"\frac{1}{2}", "0.5", "1/2", r"\dfrac{1}{2}", r"\tfrac12", ".50", r"\frac 12"],
    ["073", "73", "73.0", "+73", "73.", r"\$73"],
    [r"-\frac{1}{2}", r"\frac{-1}{2}", r"\frac{1}{-2}", "-0.5", "\u22120.5"],
    [r"1\frac{1}{2}", r"\frac32", "1.5"],
    ["1000", "1,000", r"1\,000", "1{,}000", "1e3", r"1 \times 10^{3}", r"1 \cdot 10^3"],
    ["90", r"90^\circ", r"90^{\circ}"],
    ["4", r"4 \text{ cm}", r"4\mathrm{cm}^2", "x=4", "x = 4", "{4}", r"4\%", "$4$"],
    [r"\left( 3, \frac{\pi}{2} \right)", r"(3,\dfrac{\pi}{2})"],
    [r"9\sqrt2", r"9 \sqrt{2}", r"9\,\sqrt 2"],
    [r"\sqrt[3]{8}", r"\sqrt[ 3 ] {8}"],
    ["x^2+1", "x^{2} + 1", "{x^2+1}"],
    [r"\pi r", r"\pi  r", r"\pi\, r"],
    [r"2\cdot x", r"2 \times x"],
]  # fmt: skip


@pytest.mark.parametrize("spellings", VOTES, ids=lambda found: found[0])
def test_answers_that_differ_in_writing_alone_are_one_vote(spellings: list[str]) -> None:
    """And the grader takes each of them for each other: a vote is never more lenient."""
    found = {PATIENT.extract(f"\\boxed{{{one}}}") for one in spellings}
    assert len(found) == 1
    for one in spellings:
        assert PATIENT(f"\\boxed{{{one}}}", spellings[0]) == 1, one
        assert PATIENT(f"\\boxed{{{spellings[0]}}}", one) == 1, one


def test_other_answers_are_other_votes() -> None:
    texts = [spellings[0] for spellings in VOTES]
    texts += [
        "1/3",
        "0.333333",
        "2x",
        "x+x",
        "(1,2)",
        "[1,2]",
        "1,2",
        "-73",
        r"\pi r^2",
        r"\pir",
        "",
    ]
    votes = [PATIENT.extract(f"\\boxed{{{text}}}") for text in texts]
    assert len(set(votes)) == len(texts)


def test_the_majority_counts_values() -> None:
    """Four spellings of the right answer against three votes for a wrong one."""
    right = [r"\frac{1}{2}", "0.5", "1/2", r"\dfrac{1}{2}"]
    texts = [f"\\boxed{{{answer}}}" for answer in ["2", "2", "2", *right]]
    votes = [PATIENT.extract(text) for text in texts]
    grades = [PATIENT(text, "0.5") == 1 for text in texts]
    assert maj_at_n([votes], [grades]).tolist() == [True]


@pytest.mark.skipif(not REWARDS.is_file(), reason="the published rewards are not here")
def test_all_published_rewards() -> None:
    """The +5 and -5 of AReaL's checker for 160 model outputs; no exception was needed."""
    rewards = []
    with gzip.open(REWARDS, "rt", encoding="utf-8") as rows:
        for row in map(json.loads, rows):
            (gold,) = row["solutions"]
            PATIENT.check_gold(gold)
            for text, published in zip(row["generateds"], row["rewards"], strict=True):
                rewards.append(PATIENT(text, gold))
                assert rewards[-1] == (published > 0), (gold, PATIENT.extract(text))
    assert (len(rewards), sum(rewards)) == (160, 83)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["math500", "olympiadbench", "minerva_math"])
def test_published_golds_in_another_spelling(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every gold answer is accepted; in another spelling it is right, too late, or counted here."""
    path = SHARED / name / "test.jsonl.gz"
    if not path.is_file():
        pytest.skip("the published items are not here")
    rows = [json.loads(row) for row in gzip.decompress(path.read_bytes()).splitlines()]
    golds = [gold for row in rows for gold in _golds(row)]
    reward, spelt, late, wrong = MathVerify(), 0, 0, []
    for gold in golds:
        reward.check_gold(gold)
        answer = reward._gold(gold) or ""
        # A superscript circle is a unit only when it is not moved.
        other = re.sub(r"(?<!\\)([=+]|\^(?!\{?\\circ))", r" \1 ", answer)
        other = other.replace("\\frac", "\\dfrac")
        spelt += reward._answer(f"\\boxed{{{other}}}") != answer
        before = reward.failures["timed_out"]
        if reward(f"\\boxed{{{other}}}", gold) != 1.0:
            if reward.failures["timed_out"] > before:
                late += 1
            else:
                wrong.append(answer)
    with capsys.disabled():
        counts = (
            f"{len(golds)} golds, {spelt} spelt differently, {late} timed out, {len(wrong)} not"
        )
        print(f"\n{name}: {counts} equal: {wrong}")
    assert late + len(wrong) <= spelt // 10


def _golds(row: dict) -> list[str]:
    if "final_answer" in row:
        return row["final_answer"]
    return [row.get("answer", row["solution"])]


# -- knobs and gold answers ------------------------------------------------------------------------


@pytest.mark.parametrize("gold", ["", " ", "$$", "{4", r"\boxed{}", "1" * 401])
def test_gold_that_nothing_can_equal_is_named(gold: str) -> None:
    with pytest.raises(InputError) as caught:
        MathVerify().check_gold(gold)
    assert "gold answer" in str(caught.value) and "\n" not in str(caught.value)
    assert MathVerify()(f"\\boxed{{{gold}}}", gold) == 0


def test_gold_may_be_a_whole_solution_with_a_box() -> None:
    gold = r"Since $2+2=4$, it is $\boxed{4} \mathrm{~cm}$."
    MathVerify().check_gold(gold)
    assert PATIENT(r"\boxed{\frac{8}{2}}", gold) == 1


def test_bad_knobs_are_named() -> None:
    for knobs in ({"marker": ""}, {"longest": 0}, {"seconds": 0.0}, {"seconds": float("nan")}):
        with pytest.raises(InputError, match=rf"reward\.{next(iter(knobs))}="):
            MathVerify(**knobs)  # type: ignore[arg-type]


# -- the process -----------------------------------------------------------------------------------

BOMBS = [
    "9^{9^{9^{9}}}", "1e999999999", "10^{10^{10}}", "1000000!", "((100!)!)!", "(x+y+z+1)^{1000}",
    "\\int_0^1 x^{x^x} dx", "\\prod_{n=1}^{1000000} n", "\\binom{10^9}{10^8}",
]  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_not_equal_and_ends(bomb: str, client: MathClient) -> None:
    """Also when the machine is busy: the limit is CPU time, and ten times that on the clock."""
    assert client.equal("7", "7.0", 5.0)
    start = time.perf_counter()
    assert not client.equal("7", bomb, 0.08)
    assert time.perf_counter() - start < 2.0
    assert client.equal("7", "7.0", 5.0)


@pytest.fixture
def client() -> MathClient:
    return math_client()


@pytest.fixture
def own_client():
    client = MathClient()
    yield client
    client.close()


def test_a_timeout_is_counted_logged_and_cheap(
    own_client: MathClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert own_client.equal("7", "7.0", 5.0)
    server = own_client._server
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert not own_client.equal("7", "9^{9^{9^{9}}}", 0.05)
    assert own_client.counts == {"equal": 1, "timed_out": 3}
    assert own_client._server is server, "a fork is replaced, not the server"
    assert len(caplog.records) == 1, "the 1st, the 10th, ..."
    assert "timed out" in caplog.text and "9^{9^{9^{9}}}" in caplog.text


@pytest.mark.slow
def test_a_timed_out_comparison_takes_a_tenth_of_a_second_of_cpu_time(
    own_client: MathClient,
) -> None:
    """Its limit, the end of its fork and the next fork: the clock time of an idle core."""
    assert own_client.equal("7", "7.0", 5.0)
    assert own_client._server is not None
    stat, tick = Path(f"/proc/{own_client._server.pid}/stat"), os.sysconf("SC_CLK_TCK")
    if not stat.is_file():
        pytest.skip("no /proc here")

    def used() -> float:  # by the server and by the forks that it has buried
        return sum(map(int, stat.read_text().rpartition(")")[2].split()[11:15])) / tick

    before, here = used(), time.process_time()
    for _ in range(10):
        assert not own_client.equal("7", "9^{9^{9^{9}}}", MathVerify().seconds)
    assert own_client.counts["timed_out"] == 10
    assert (used() - before + time.process_time() - here) / 10 < 0.1


@pytest.mark.slow
def test_a_fork_that_dies_idle_costs_one_comparison_and_mixes_no_replies(
    own_client: MathClient,
) -> None:
    assert own_client.equal("1", "1.0", 5.0)
    server = own_client._server
    assert server is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    if not children.is_file():
        pytest.skip("no /proc children here")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    time.sleep(0.3)
    # The death is reported in place of a reply, which comes late and is then skipped.
    assert not own_client.equal("1", "1.0", 5.0)
    time.sleep(0.3)
    assert [own_client.equal("1", answer, 5.0) for answer in ("2", "1.0", "3")] == [
        False, True, False,
    ]  # fmt: skip
    assert own_client.counts == {"crashed": 1, "unequal": 2, "equal": 2}


def test_a_server_that_was_killed_is_replaced(own_client: MathClient) -> None:
    assert own_client.equal("1", "1.0", 5.0)
    assert own_client._server is not None
    os.killpg(own_client._server.pid, signal.SIGKILL)
    own_client._server.wait()
    assert not own_client.equal("1", "1.0", 5.0)
    assert own_client.counts["crashed"] == 1
    assert own_client.equal("1", "1.0", 5.0)


@pytest.mark.slow
def test_a_stuck_server_is_replaced(
    own_client: MathClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own_client.equal("1", "1.0", 5.0)
    assert own_client._server is not None
    os.killpg(own_client._server.pid, signal.SIGSTOP)
    monkeypatch.setattr(_math_client, "_STUCK_SECONDS", 0.2)
    assert not own_client.equal("1", "1.0", 0.01)
    monkeypatch.undo()
    assert own_client.equal("1", "1.0", 5.0)
    assert own_client.counts == {"equal": 2, "crashed": 1}


def test_a_server_that_cannot_start_is_an_error_not_a_wrong_answer(
    own_client: MathClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "_math_server.py"
    broken.write_text("raise SystemExit(3)")
    monkeypatch.setattr(_math_client, "_SERVER", broken)
    with pytest.raises(RuntimeError, match="did not start"):
        own_client.equal("1", "1.0", 1.0)


def test_threads_share_a_server(client: MathClient) -> None:
    found: dict[int, bool] = {}

    def ask(n: int) -> None:
        found[n] = client.equal(str(n), f"{n}.0" if n % 2 else f"{n}.5", 5.0)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: bool(n % 2) for n in range(20)}


@pytest.mark.slow
def test_a_forked_process_has_its_own_server_and_leaves_none_behind() -> None:
    """In a bare interpreter: a fork grades, the parent goes on grading, both servers end."""
    code = """
import os
from latentbench.reward._math_client import math_client
from latentbench.reward.math_verify import MathVerify
reward = MathVerify(seconds=5.0)
assert reward("# 2/4", "0.5") == 1
first = math_client()._server.pid
read, write = os.pipe()
child = os.fork()
if child == 0:
    right = reward("# 3/4", "0.75") == 1 and reward("# 3/4", "0.5") == 0
    os.write(write, str(math_client()._server.pid).encode())
    os._exit(0 if right else 1)
assert os.waitpid(child, 0)[1] == 0
assert reward("# 1/4", "0.25") == 1 and math_client()._server.pid == first
print(first, os.read(read, 100).decode())
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    first, second = map(int, done.stdout.split())
    assert first != second and done.stderr == ""
    deadline = time.monotonic() + 20
    while any(map(_runs, (first, second))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(first) and not _runs(second)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_server_loads_neither_torch_nor_latentbench() -> None:
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='looked_at');"
        "print(*[name for name in ('torch', 'latentbench') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(SERVER)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_failures_are_those_of_this_process() -> None:
    before = MathVerify().failures["timed_out"]
    MathVerify(seconds=0.05)(r"\boxed{9^{9^{9^{9}}}}", "7")
    assert MathVerify().failures == {**MathVerify().failures, "timed_out": before + 1}
