"""How often another grader sees an answer differently than the one that counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latentbench.errors import InputError
from latentbench.reward import Reward

# Of a long answer its end is shown: the final answer stands there.
_SHOWN = 200


@dataclass(frozen=True)
class Disagreement:
    """One answer that the graders see differently; `text` is its end."""

    text: str
    gold: str
    first: bool
    second: bool


@dataclass(frozen=True)
class SecondOpinion:
    """`disagreements` among `compared` answers; `not_compared` have a gold answer that the second
    grader cannot read. `examples` are the first ones that differ, in the order of the answers;
    `failures`, how many comparisons of the second grader came to no end, so counted as not equal.
    """

    compared: int
    disagreements: int
    not_compared: int
    examples: tuple[Disagreement, ...]
    failures: int = 0

    @property
    def rate(self) -> float | None:
        """The share of compared answers that differ; None where there are none to compare."""
        return self.disagreements / self.compared if self.compared else None


def second_opinion(
    texts: Sequence[str],
    golds: Sequence[str],
    verdicts: Sequence[bool],
    second: Reward,
    examples: int = 5,
) -> SecondOpinion:
    """The verdicts of the primary grader against those of `second`, a reward plug-in.

    `texts`, `golds` and `verdicts` [answer] belong together; ValueError when their lengths differ.
    """
    gradable: dict[str, bool] = {}
    compared, found, shown, before = 0, 0, [], sum(second.failures.values())
    for text, gold, first in zip(texts, golds, verdicts, strict=True):
        if gold not in gradable:
            gradable[gold] = _gradable(second, gold)
        if not gradable[gold]:
            continue
        compared += 1
        other = second(text, gold) == 1.0
        if other != bool(first):
            found += 1
            if len(shown) < examples:
                shown.append(Disagreement(text[-_SHOWN:], gold, bool(first), other))
    failures = sum(second.failures.values()) - before
    return SecondOpinion(compared, found, len(texts) - compared, tuple(shown), failures)


def _gradable(grader: Reward, gold: str) -> bool:
    try:
        grader.check_gold(gold)
    except InputError:
        return False
    return True
