"""The supervised stage: a curriculum of rows, a loss, and updates.

The gradient runs through the whole latent chain and the cached keys and values.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from latentbench.config.sections import SftConfig
from latentbench.curriculum import Curriculum
from latentbench.errors import DidNotLearn, NotFinite
from latentbench.keys import Key, Purpose
from latentbench.model.backbone import set_dropout, train_only
from latentbench.model.layout import Layout
from latentbench.model.policy import Policy
from latentbench.records import SftRow, Slots
from latentbench.sft_loss import SftLoss
from latentbench.training.data import Stages, sft_rows
from latentbench.training.gate import Gate
from latentbench.training.module import TrainingModule
from latentbench.training.rollout import chunks


class SftModule(TrainingModule):
    """One training step: rows of the stage -> latent phase -> loss -> update.

    `trainable` is what is trained, as `rl.trainable` says it. With `seconds` the training ends once
    they have been spent, whatever the number of updates. With a `gate` a stage ends when the model
    can do it, and its length is the most it may take: DidNotLearn is raised there.
    """

    def __init__(
        self,
        policy: Policy,
        layout: Layout,
        curriculum: Curriculum,
        slots: Slots,
        stages: Stages,
        loss: SftLoss,
        config: SftConfig,
        seed: int,
        trainable: str = "all",
        seconds: float | None = None,
        gate: Gate | None = None,
    ) -> None:
        super().__init__()
        self.model = policy.model
        self.policy, self.layout, self.loss = policy, layout, loss
        self.curriculum, self.slots, self.stages = curriculum, slots, stages
        self.config, self.seed = config, seed
        self.since_reset = 0
        self.seconds, self.spent = seconds, 0.0
        self.gate = gate
        self.open_ended = gate is not None or seconds is not None
        self.stage: int | None = stages.after(-1)  # None once all are done
        self.began = 0  # the update with which the stage began
        self.looks: list[dict[str, Any]] = []  # what each finished stage reached
        train_only(self.model, trainable)
        set_dropout(self.model, config.dropout)
        self.model.train()  # Lightning leaves the mode alone; dropout acts in train mode only

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            [p for p in self.parameters() if p.requires_grad],
            lr=self.config.lr,
            betas=(self.config.betas[0], self.config.betas[1]),
            weight_decay=self.config.weight_decay,
        )

    def on_train_start(self) -> None:
        self._stop_when_done()  # a checkpoint may be from the very end

    def _stop_when_done(self) -> None:
        spent = self.seconds is not None and self.spent >= self.seconds
        if spent or self.stage is None:
            self.trainer.should_stop = True

    def training_step(self, batch: Any, batch_idx: int) -> None:
        started = time.perf_counter()
        self._prepare_optimizer()
        stage = self.stage
        assert stage is not None
        rows = sft_rows(
            self.data().batch(self.update),
            stage,
            self.update,
            self.curriculum,
            self.slots,
            self.layout,
            self.config,
            self.seed,
            self.loss.needs,
        )
        loss = self._backward(rows)
        clip = self.config.grad_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        if not bool(torch.isfinite(norm)):
            raise NotFinite(
                f"sft update {self.update}: the gradient is not finite; lower sft.lr or set "
                "sft.grad_clip"
            )
        self.optimizer().step()
        self.update += 1
        self.since_reset += 1
        seen = self._end_stage(stage)
        passed = time.perf_counter() - started
        self.spent += passed
        self._stop_when_done()
        self.report(
            {
                "train/loss": loss,
                "train/grad_norm": float(norm),
                "train/stage": stage,
                "perf/tokens_per_s": sum(len(row.text) for row in rows) / passed,
            }
            | seen
        )

    def _end_stage(self, stage: int) -> dict[str, float]:
        """Go on to the next stage where this one has its length, or its gate. Looks at the gate
        where that is due, and says what it saw."""
        took = self.update - self.began
        full = took >= self.stages.length(stage)
        if self.gate is None:
            if full:
                self._next_stage(stage)
            return {}
        last = self.stages.after(stage) is None
        every = self.gate.target_every if last else self.gate.every
        wanted = self.gate.target if last else self.gate.gate
        if not full and took % every:
            return {}
        self.model.eval()
        accuracy = self.gate.accuracy(self.policy, stage)
        self.model.train()
        if accuracy < wanted and full and self.config.at_cap == "stop":
            raise DidNotLearn(
                f"SFT stage {stage} (the first is 0) reached {accuracy:.1%} of validation in "
                f"{took} updates and needs {wanted:.1%}; raise sft.stages or change sft.lr, lower "
                "sft.gate and sft.target, or set sft.at_cap=go_on"
            )
        if accuracy >= wanted or full:
            seen = {"stage": stage, "updates": took, "accuracy": accuracy}
            self.looks.append(seen | {"passed": accuracy >= wanted})
            self._next_stage(stage)
        return {"validation/pass@1": accuracy}

    def _next_stage(self, stage: int) -> None:
        self.stage, self.began = self.stages.after(stage), self.update

    def _backward(self, rows: Sequence[SftRow]) -> float:
        """Accumulate the gradient of the batch's loss; returns the loss."""
        total = 0.0
        # Dropout of the model itself is the one draw that is not keyed by row; its seed is.
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(Key(self.seed, Purpose.DROPOUT, self.update).integer())
            for latents in sorted({row.latents for row in rows}):
                alike = [row for row in rows if row.latents == latents]
                policy = replace(self.policy, latents=latents)
                for chunk in chunks(alike, self.config.micro_batch):
                    loss = self.loss(policy, chunk, rows, self.layout.markers.pad)
                    self.manual_backward(loss)
                    total += float(loss.detach())
        return total

    def _prepare_optimizer(self) -> None:
        optimizer = self.optimizer()
        if self._resets():
            optimizer.state.clear()
            self.since_reset = 0
        rise = min(1.0, (self.since_reset + 1) / max(self.config.warmup, 1))
        fall = min(1.0, (self.stages.total - self.update) / max(self.config.cooldown, 1))
        last = self.stage is None or self.stages.after(self.stage) is None
        share = self.config.last_lr if last else 1.0
        for group in optimizer.param_groups:
            group["lr"] = self.config.lr * rise * fall * share
        optimizer.zero_grad(set_to_none=True)

    def _resets(self) -> bool:
        """Whether the optimizer starts anew: with a stage, or with an epoch."""
        unit = self.config.reset_optimizer
        epoch = unit == "epoch" and self.update % self.stages.updates_per_epoch == 0
        return epoch or self.update == 0 or (unit != "never" and self.update == self.began)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["latentbench"] = {
            "update": self.update,
            "since_reset": self.since_reset,
            "spent": self.spent if self.seconds is not None else 0.0,
            "stage": self.stage,
            "began": self.began,
            "looks": self.looks,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["latentbench"]
        self.update, self.since_reset = state["update"], state["since_reset"]
        self.spent = state["spent"]
        self.stage, self.began, self.looks = state["stage"], state["began"], state["looks"]
