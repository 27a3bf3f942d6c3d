"""The process that compares LaTeX answers with Math-Verify; run by path, it imports no latentbench.

Each line on standard input is a JSON list [number, gold, answer, seconds]; the reply is a line with
the number and `equal` or `unequal`. The answers are read, compared and replied to by a fork of this
process, which itself is loaded and warm and meets no answer. When the fork hangs, the kernel ends
it at the time limit; this process then replies `timed_out` or `crashed` and forks the next one, in
milliseconds where a new process would need seconds.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import signal
import sys
from functools import lru_cache
from typing import Any, TextIO

from math_verify import LatexExtractionConfig, parse, verify
from sympy import Eq, Expr

# The process is about 100 MB; more is a bomb such as 9**9**9**9.
MEMORY = 512 * 2**20
# CPU time is what `seconds` limits, so that a verdict does not hang on how busy the machine is.
WALL_PER_CPU = 10
# A gold answer is the benchmark's: it is read once, outside the limit of an answer.
GOLD_SECONDS = 1.0

# A fork is replaced in time, so that what SymPy remembers never fills the memory.
COMPARISONS_PER_FORK = 2000
RETIRED = 10
RELATIVE = 1e-5
CONFIG = [LatexExtractionConfig(boxed_match_priority=0)]
# Each loads parts of SymPy and of the LaTeX grammar that a fork would have to load again.
WARM_UP = [
    (r"\frac{1}{2}", "0.5"),
    (r"9\sqrt{2} + \sqrt[3]{5}", r"18 - \pi"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(-\sqrt{3}, \sqrt{3}, 1)"),
    (r"\left[ \frac{\pi^2}{8}, \frac{5 \pi^2}{4} \right]", r"[0, 1) \cup (2, \infty)"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & x \end{pmatrix}", r"\begin{bmatrix} 1 \\ 3 \end{bmatrix}"),
    (r"\{1, 2, 3\}", "1, 2, 4"),
    (r"x^2 + 2x + 1", r"(x+1)(x+2)"),
    (r"y = 2x + 3", r"2x - y = 4"),
    (r"\log_{10} 2 + \ln 3 + \cot x", r"\sin^2 x + \cos x"),
    (r"(4, \log_{10} 2)", r"4, 90^\circ"),
    (r"x = \frac{1}{6}\pi + \pi k", r"x \le 3"),
    (r"\text{Evelyn}", r"\text{even}"),
    (r"\binom{5}{2} + 3!", r"2 \cdot 10^{3} + 1\frac{1}{2}"),
    (r"3 + 2i", r"|x - 1| < 5"),
    (r"X_{d}=125-1.25 P", r"-\frac{1}{2} X^{-\frac{1}{2}}"),
    (r"s^{2}+\omega^{2}", r"\sqrt{4 \pi G \rho_{0} r_{0}^{2}}"),
    (r"\left(\frac{t^{2}}{2}-t+C_{1}\right) e^{-2 t}", r"\frac{\cos (2 t)}{15}+C_{2} \sin (t)"),
    (r"\frac{a M^{1 / 3}}{G M^{2 / 3}+b}", r"\left(1+r / r_{0}\right)^{3 / 2}"),
]  # fmt: skip


def parsed(answer: str) -> Any:
    """The readings of an answer; Math-Verify's own time limits, which are alarms, are off."""
    return parse(f"\\boxed{{{answer}}}", CONFIG, parsing_timeout=None)  # type: ignore[arg-type]


parsed_gold = lru_cache(COMPARISONS_PER_FORK)(parsed)


def compare(gold: str, answer: str) -> bool:
    """Whether Math-Verify takes `answer` for `gold`, and numbers are also close as a ratio.

    Math-Verify rounds to six decimals, so to it all numbers below 5e-7 are equal.
    """
    golds, answers = parsed_gold(gold), parsed(answer)
    if not verify(golds, answers, timeout_seconds=None):
        return False
    sides = [value(readings) for readings in (golds, answers)]
    return None in sides or abs(sides[1] - sides[0]) <= RELATIVE * abs(sides[0])


def value(readings: Any) -> Any:
    """The number that an answer is read as; None for anything else."""
    reading = readings[0] if readings else None
    if isinstance(reading, Eq):
        reading = reading.rhs
    known = isinstance(reading, Expr) and reading.is_number and reading.is_finite
    return reading.evalf(15) if known else None  # type: ignore[union-attr]


def limit(seconds: float) -> None:
    """Let the kernel end this process after so much more CPU time; 0 lifts the limit."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WALL_PER_CPU * seconds)


def serve(replies: TextIO) -> None:
    """Answer questions until there are no more; exits as RETIRED after enough of them."""
    for _ in range(COMPARISONS_PER_FORK):
        line = sys.stdin.readline()
        if not line:
            return
        number, gold, answer, seconds = json.loads(line)
        limit(GOLD_SECONDS)
        parsed_gold(gold)
        limit(seconds)
        word = "equal" if compare(gold, answer) else "unequal"
        limit(0)
        replies.write(f"{number} {word}\n")
    os._exit(RETIRED)


def main() -> None:
    # What a library prints must not be read as a reply.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    for gold, answer in WARM_UP:
        compare(gold, answer)
        compare(answer, answer)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # macOS knows the limit and refuses to set it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    # Collecting in a fork would touch, and so copy, every page of the objects above.
    gc.collect()
    gc.freeze()
    replies.write("ready\n")
    while True:
        child = os.fork()
        if child == 0:
            try:
                serve(replies)
                os._exit(0)
            finally:  # an exception that Math-Verify lets pass, such as RecursionError
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == RETIRED:
            continue
        late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
        replies.write("timed_out\n" if late else "crashed\n")


if __name__ == "__main__":
    main()
