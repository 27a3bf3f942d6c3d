"""Coconut's curriculum (arXiv 2412.06769 §3; official dataset.py): at stage s the first s steps are
replaced by s*c latent slots; past `latent.max_stage` all steps are gone and the slots stay."""

from __future__ import annotations

from dataclasses import dataclass

from latentbench.records import Item, Slots


@dataclass(frozen=True)
class Coconut:
    @property
    def markers(self) -> bool:
        return True

    def split(self, item: Item, stage: int, slots: Slots) -> tuple[int, tuple[str, ...]]:
        if stage <= slots.max_stage:
            return stage * slots.per_step, item.steps[stage:]
        longest = slots.max_stage
        steps = longest if slots.pad_to_max else min(longest, len(item.steps))
        return steps * slots.per_step, ()

    def last_stage(self, slots: Slots) -> int:
        return slots.max_stage
