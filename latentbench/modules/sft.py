"""The supervised stage: Coconut's curriculum, chain of thought, or neither.

Loss: mean cross-entropy over the text tokens of a batch; question, markers and latent slots are not
scored. The gradient runs through the whole latent chain and the cached keys and values.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from latentbench.curriculum import Curriculum
from latentbench.keys import Key, Purpose
from latentbench.layout import Layout
from latentbench.models import set_dropout
from latentbench.modules.data import SftRow, Stages, sft_rows
from latentbench.modules.training_module import TrainingModule
from latentbench.policy import Policy
from latentbench.records import NoiseRecord, Slots, collate_prompts, collate_text
from latentbench.rollout import chunks
from latentbench.schema import SftConfig


def text_loss(policy: Policy, rows: Sequence[SftRow], pad: int) -> torch.Tensor:
    """Summed cross-entropy of the rows' text; all rows have `policy.latents` latent slots."""
    prompts = collate_prompts([row.prompt for row in rows], pad, policy.device)
    text = collate_text([row.text for row in rows], pad, policy.device)
    record = NoiseRecord()
    state, _ = policy.latent_phase(prompts, record, group_size=1)
    real = text.mask.bool()
    hidden = policy.read(state, prompts.cue, record, text)[real]
    logits = policy.model.get_output_embeddings()(hidden)
    return cross_entropy(logits, text.ids[real], reduction="sum")


class SftModule(TrainingModule):
    """One training step: rows of the stage -> latent phase -> text loss -> update."""

    def __init__(
        self,
        policy: Policy,
        layout: Layout,
        curriculum: Curriculum,
        slots: Slots,
        stages: Stages,
        config: SftConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = policy.model
        self.policy, self.layout = policy, layout
        self.curriculum, self.slots, self.stages = curriculum, slots, stages
        self.config, self.seed = config, seed
        self.since_reset = 0
        set_dropout(self.model, config.dropout)
        self.model.train()  # Lightning leaves the mode alone; dropout acts in train mode only

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.parameters(),
            lr=self.config.lr,
            betas=(self.config.betas[0], self.config.betas[1]),
            weight_decay=self.config.weight_decay,
        )

    def training_step(self, batch: Any, batch_idx: int) -> None:
        started = time.perf_counter()
        self._prepare_optimizer()
        stage = self.stages.stage(self.update)
        rows = sft_rows(
            self.data().batch(self.update),
            stage,
            self.update,
            self.curriculum,
            self.slots,
            self.layout,
            self.config,
            self.seed,
        )
        tokens = sum(len(row.text) for row in rows)
        loss = self._backward(rows, tokens)
        clip = self.config.grad_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        if not bool(torch.isfinite(norm)):
            raise FloatingPointError(
                f"sft update {self.update}: the gradient is not finite; lower sft.lr or set "
                "sft.grad_clip"
            )
        self.optimizer().step()
        self.update += 1
        self.since_reset += 1
        self.report(
            {
                "train/loss": loss,
                "train/grad_norm": float(norm),
                "train/stage": stage,
                "perf/tokens_per_s": tokens / (time.perf_counter() - started),
            }
        )

    def _backward(self, rows: Sequence[SftRow], tokens: int) -> float:
        """Accumulate the gradient of the batch's mean token loss; returns the loss."""
        total = 0.0
        # Dropout of the model itself is the one draw that is not keyed by row; its seed is.
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(Key(self.seed, Purpose.DROPOUT, self.update).integer())
            for latents in sorted({row.latents for row in rows}):
                alike = [row for row in rows if row.latents == latents]
                policy = replace(self.policy, latents=latents)
                for chunk in chunks(alike, self.config.micro_batch):
                    loss = text_loss(policy, chunk, self.layout.markers.pad) / tokens
                    self.manual_backward(loss)
                    total += float(loss.detach())
        return total

    def _prepare_optimizer(self) -> None:
        optimizer = self.optimizer()
        if self.stages.starts(self.update, self.config.reset_optimizer):
            optimizer.state.clear()
            self.since_reset = 0
        rise = min(1.0, (self.since_reset + 1) / max(self.config.warmup, 1))
        for group in optimizer.param_groups:
            group["lr"] = self.config.lr * rise
        optimizer.zero_grad(set_to_none=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["latentbench"] = {"update": self.update, "since_reset": self.since_reset}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.update = checkpoint["latentbench"]["update"]
        self.since_reset = checkpoint["latentbench"]["since_reset"]
