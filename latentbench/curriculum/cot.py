"""Chain of thought: every step is written out, no latent slots, no markers (Coconut's CoT arm)."""

from __future__ import annotations

from dataclasses import dataclass

from latentbench.records import Item, Slots


@dataclass(frozen=True)
class Cot:
    @property
    def markers(self) -> bool:
        return False

    def split(self, item: Item, stage: int, slots: Slots) -> tuple[int, tuple[str, ...]]:
        return 0, item.steps

    def last_stage(self, slots: Slots) -> int:
        return 0
