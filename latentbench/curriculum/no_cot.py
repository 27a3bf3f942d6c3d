"""The answer straight after the question: no steps, no latent slots (Coconut's No-CoT arm)."""

from __future__ import annotations

from dataclasses import dataclass

from latentbench.records import Item, Slots


@dataclass(frozen=True)
class NoCot:
    @property
    def markers(self) -> bool:
        return False

    def split(self, item: Item, stage: int, slots: Slots) -> tuple[int, tuple[str, ...]]:
        return 0, ()

    def last_stage(self, slots: Slots) -> int:
        return 0
