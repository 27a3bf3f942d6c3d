"""No curriculum: all steps are latent from the first update on (CODI, arXiv 2502.21074; "w/o
curriculum" in arXiv 2412.06769 Table 1)."""

from __future__ import annotations

from dataclasses import dataclass

from latentbench.records import Item, Slots


@dataclass(frozen=True)
class AtOnce:
    @property
    def markers(self) -> bool:
        return True

    def split(self, item: Item, stage: int, slots: Slots) -> tuple[int, tuple[str, ...]]:
        longest = slots.max_stage
        steps = longest if slots.pad_to_max else min(longest, len(item.steps))
        return steps * slots.per_step, ()

    def last_stage(self, slots: Slots) -> int:
        return 0
