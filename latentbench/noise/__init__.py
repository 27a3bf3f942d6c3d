"""Noise sources: what makes the rollouts of one prompt differ. One file each.

A source draws a record from the rollouts' keys, and says what that record does at which site and
step. Rollout and replay ask with the same record: that is the invariant which makes every method
honest.

Steps are counted as in the field: 0 is the prompt, 1..T the latent slots, `ANSWER` the text after
them. Sites, by kind:

    embedding                  the input vectors of a forward
    attention.i, mlp.i         the outputs of the two residual branches of block i
    value.i                    the value projection of block i
    scores                     the log-probabilities that a thought is mixed from (mixture carriers)
    thought                    the input vector of a latent slot
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

import torch

from latentbench.errors import refuse_unknown
from latentbench.keys import Key
from latentbench.records import NoiseRecord

PROMPT = 0
ANSWER = -1
SCOPES = ("latent", "prompt+latent", "all")

Effect: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"
Effects: TypeAlias = "Mapping[str, Effect]"


@dataclass(frozen=True)
class Site:
    """A place that noise can act on: the width of its output and, for value projections, the
    weight [input, output] of its linear map as it is now, detached."""

    width: int
    weight: torch.Tensor | None = None


@dataclass(frozen=True)
class Gain:
    """The effect of a multiplier [row, 1, feature] on a site's output."""

    values: torch.Tensor

    def __call__(self, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        return output * self.values.to(output.dtype)


class NoiseSource(Protocol):
    """What a noise source has; a subclass takes over what is written out here.

    `acts_on` lists the kinds of sites that it needs. `replayed` is False for a negative control,
    which is scored under other draws than it was rolled out with. `strength` names the field
    that calibration turns, `scope` the phases that it acts in where that can be chosen, `top_k` how
    many token types its filter lets through. `gumbel_margins` says that it adds draws to the law of
    a mixture and does nothing else, so that a slot's margins are draws too.
    """

    acts_on: ClassVar[tuple[str, ...]]
    replayed: bool = True
    strength: ClassVar[str | None] = None
    gumbel_margins: ClassVar[bool] = False
    scope: str | None = None
    top_k: int | None = None

    @property
    def diverges(self) -> str:
        """The first phase in which rollouts of a prompt differ: `prompt`, `latent` or `answer`.
        All before it is computed once per prompt."""
        ...

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        """The record of `len(keys)` rollouts at the sites of the model."""
        ...

    def effects(self, record: NoiseRecord, step: int) -> Effects:
        """What happens at which site at a step: functions of the site's input and output, both
        [row, position, feature] ([row, feature] for `scores` and `thought`), to the new output."""
        ...

    def check_vocabulary(self, size: int) -> None:
        """Raise InputError for a noise that asks for more token types than the `size` there are."""


def prefix_safe(noise: NoiseSource) -> bool:
    """Whether the prompt may be prefilled once for all rollouts of a group."""
    return noise.diverges != "prompt"


def kind_of(site: str) -> str:
    """The kind of a site: `mlp` for `mlp.3`."""
    return site.partition(".")[0]


# -- the phases that a noise with a `scope` acts in: the slots, the prompt too, or all ------------


def check_scope(scope: str) -> None:
    """Raises InputError for a scope that is none of `SCOPES`."""
    refuse_unknown("noise.scope", scope, SCOPES)


def acts_at(scope: str, step: int) -> bool:
    """Whether noise of this scope acts at a step."""
    return {PROMPT: scope != "latent", ANSWER: scope == "all"}.get(step, True)


def first_phase(scope: str) -> str:
    """The first phase that noise of this scope acts in, as `diverges` names it."""
    return "latent" if scope == "latent" else "prompt"
