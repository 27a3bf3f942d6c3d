"""SFT curricula: which steps of a problem are latent, and which are text, at each stage."""

from __future__ import annotations

from typing import Protocol

from latentbench.records import Item, Slots


class Curriculum(Protocol):
    @property
    def markers(self) -> bool:
        """Whether latent slots stand between `<|start-latent|>` and `<|end-latent|>`."""
        ...

    def split(self, item: Item, stage: int, slots: Slots) -> tuple[int, tuple[str, ...]]:
        """The number of latent slots and the steps that stay text, at a stage."""
        ...

    def last_stage(self, slots: Slots) -> int:
        """The stage in which the model is tested; 0 where there is only one."""
        ...
