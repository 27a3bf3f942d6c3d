"""The data module: which problems stand in which update, as a function of the seed alone.

The order of epoch e is one keyed permutation; update u takes its slice. Nothing has to be stored to
resume: the batch of any update can be asked for at any time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import lightning
import numpy as np
from torch.utils.data import DataLoader

from latentbench.curriculum import Curriculum
from latentbench.keys import Key, Purpose
from latentbench.layout import Layout
from latentbench.records import Item, SftRow, Slots
from latentbench.schema import SftConfig

ENDLESS = sys.maxsize  # as many updates as there is time for


@dataclass(frozen=True)
class Stages:
    """The updates of an SFT run, cut into epochs and stages."""

    lengths: tuple[int, ...]
    unit: str
    updates_per_epoch: int

    @property
    def total(self) -> int:
        return sum(self.lengths) * (self.updates_per_epoch if self.unit == "epochs" else 1)

    def stage(self, update: int) -> int:
        """The stage that an update belongs to."""
        scale = self.updates_per_epoch if self.unit == "epochs" else 1
        return int(np.searchsorted(np.cumsum(self.lengths) * scale, update, side="right"))

    def starts(self, update: int, unit: str) -> bool:
        """Whether an update is the first of its stage or epoch."""
        if update == 0:
            return True
        if unit == "epoch" and update % self.updates_per_epoch == 0:
            return True
        return unit in ("stage", "epoch") and self.stage(update) != self.stage(update - 1)


class TrainingData(lightning.LightningDataModule):
    """Training problems in their keyed order; the loader itself only counts updates."""

    def __init__(self, items: Sequence[Item], batch_size: int, updates: int, seed: int) -> None:
        super().__init__()
        self.items = items
        self.batch_size = min(batch_size, len(items))
        self.updates = updates
        self.seed = seed
        self._epoch: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=int))

    @property
    def updates_per_epoch(self) -> int:
        return -(-len(self.items) // self.batch_size)

    def batch(self, update: int) -> list[Item]:
        """The problems of an update; the last batch of an epoch may be short."""
        epoch, index = divmod(update, self.updates_per_epoch)
        if self._epoch[0] != epoch:
            order = Key(self.seed, Purpose.ORDER, epoch).generator().permutation(len(self.items))
            self._epoch = (epoch, order)
        chosen = self._epoch[1][index * self.batch_size : (index + 1) * self.batch_size]
        return [self.items[i] for i in chosen]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(range(self.updates), batch_size=None)  # type: ignore[arg-type]


def sft_rows(
    items: Sequence[Item],
    stage: int,
    update: int,
    curriculum: Curriculum,
    slots: Slots,
    layout: Layout,
    config: SftConfig,
    seed: int,
    needs: Sequence[str] = (),
) -> list[SftRow]:
    """The batch of one update; a share `mix` of it comes from other stages. `needs` lists the
    optional fields that the loss reads."""
    rng = Key(seed, Purpose.STAGE, update).generator()
    rows = []
    for item in items:
        strays, pick = rng.random(2)
        stages = stage + 1 if config.mix_over == "earlier" else len(item.steps) + 1
        at = int(pick * stages) if strays < config.mix else stage
        latents, steps = curriculum.layout(item, at, slots)
        row = SftRow(latents, layout.prompt(item), layout.text(item, steps))
        if "targets" in needs:
            row = replace(row, targets=slot_targets(layout.step_tokens(item), latents, slots))
        if "written" in needs:
            written, answer = layout.text(item, item.steps), layout.answer_tokens(item)
            row = replace(row, written=written, answer=answer)
        rows.append(row)
    return rows


def slot_targets(
    steps: Sequence[tuple[int, ...]], latents: int, slots: Slots
) -> tuple[tuple[int, ...], ...]:
    """The tokens that each latent slot stands for: a step's tokens in order, shared out among its
    `per_step` slots; none for slots beyond the last step."""
    targets: list[tuple[int, ...]] = []
    for tokens in steps[: latents // slots.per_step]:
        bounds = [round(len(tokens) * i / slots.per_step) for i in range(slots.per_step + 1)]
        targets += [tokens[a:b] for a, b in pairwise(bounds)]
    return (*targets, *[()] * (latents - len(targets)))
