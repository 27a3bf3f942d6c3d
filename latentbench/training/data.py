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

from latentbench.config.sections import SftConfig
from latentbench.curriculum import Curriculum
from latentbench.keys import Key, Purpose
from latentbench.model.layout import Layout
from latentbench.records import Item, SftRow, Slots

ENDLESS = sys.maxsize  # as many updates as there is time for


@dataclass(frozen=True)
class Stages:
    """The updates of an SFT run, cut into epochs and stages."""

    lengths: tuple[int, ...]
    unit: str
    updates_per_epoch: int

    @property
    def total(self) -> int:
        return sum(map(self.length, range(len(self.lengths))))

    def length(self, stage: int) -> int:
        """The updates of a stage; the most it may take, where a gate can end it."""
        return self.lengths[stage] * (self.updates_per_epoch if self.unit == "epochs" else 1)

    def after(self, stage: int) -> int | None:
        """The next stage that is trained at all; None after the last."""
        later = range(stage + 1, len(self.lengths))
        return next((s for s in later if self.lengths[s] > 0), None)


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
    """The batch of one update; a share `mix` of the rows, or of the batches, comes from other
    stages. `needs` lists what the loss reads beside the text."""
    rng = Key(seed, Purpose.STAGE, update).generator()
    strays, pick = rng.random(2)
    rows = []
    for index, item in enumerate(items):
        if config.mix_by == "row" and index > 0:
            strays, pick = rng.random(2)
        stages = stage + 1 if config.mix_over == "earlier" else len(item.steps) + 1
        at = int(pick * stages) if strays < config.mix else stage
        latents, steps = curriculum.split(item, at, slots)
        row = SftRow(latents, layout.prompt(item), layout.text(item, steps))
        if "targets" in needs:
            row = replace(row, targets=slot_targets(layout.step_tokens(item), latents, slots))
        for need, shown in (("written", None), ("written but the last", -1)):
            if need in needs:
                written, answer = layout.text(item, item.steps[:shown]), layout.answer_tokens(item)
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
