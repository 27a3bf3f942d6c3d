"""When a stage of the curriculum ends: when the model can do it, on validation problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from latentbench.curriculum import Curriculum
from latentbench.model.layout import Layout
from latentbench.model.policy import Policy
from latentbench.records import Item, Slots
from latentbench.reward import Reward
from latentbench.training.greedy import greedy_accuracy


@dataclass(frozen=True)
class Gate:
    """Greedy accuracy without noise at the stage's own layout, on the problems `items`.

    A stage needs `gate`, looked at after every `every` of its updates; the last one `target`, after
    every `target_every`. What is left of the written steps is written by the model itself.
    """

    items: Sequence[Item]
    layout: Layout
    curriculum: Curriculum
    slots: Slots
    reward: Reward
    budget: int
    gate: float
    target: float
    every: int
    target_every: int

    def accuracy(self, policy: Policy, stage: int) -> float:
        """The share of `items` that are right."""
        latents = [self.curriculum.split(item, stage, self.slots)[0] for item in self.items]
        right = 0.0
        for number in sorted(set(latents)):
            alike = [item for item, n in zip(self.items, latents, strict=True) if n == number]
            prompts = self.layout.prompts(alike)
            thinking = replace(policy, latents=number)
            share = greedy_accuracy(
                thinking,
                prompts,
                self.layout,
                self.reward,
                self.budget,
                f"SFT stage {stage}: validation",
            )
            right += share * len(alike)
        return right / len(self.items)
