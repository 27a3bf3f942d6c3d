"""Sums of four digits modulo ten: too deep for one pass of one layer, and easy in latent steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from latentbench.data._chains import RESULT, Chains
from latentbench.records import Template


@dataclass(frozen=True)
class Sums(Chains):
    """Sums like `3+8+4+1=`, written out as `1566`: the running results, then the answer.

    Nothing leads the answer in, so that what follows the latent slots is a result at every stage.
    """

    name: str = "sums"
    lengths: list[int] = field(default_factory=lambda: [3])
    operators: str = "+"

    template: ClassVar[Template] = Template(question_end="", step_end="", answer_start="")
    grader: ClassVar[str | None] = "exact_string"
    step: ClassVar[str] = RESULT
