"""The model's own dropout during SFT: one rate for all of it, and other draws at every update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checks import LAYOUT, make_policy, twin

from latentbench.config.sections import SftConfig, TrainerConfig
from latentbench.curriculum.coconut import Coconut
from latentbench.data.arithmetic import Arithmetic
from latentbench.model.backbone import set_dropout
from latentbench.records import Slots
from latentbench.sft_loss.text import TextLoss
from latentbench.training.data import Stages, TrainingData
from latentbench.training.fitting import fit
from latentbench.training.sft import SftModule

ITEMS = Arithmetic(n_train=4, n_validation=2, n_test=2).load().train
QUIET = TrainerConfig(accelerator="cpu", progress="quiet", checkpoint_every=10_000)
IDS = torch.arange(3, 11)[None]


def attention_of(model: Any, vectors: torch.Tensor) -> torch.Tensor:
    """The first block's attention weights after dropout [head, query, key], in train mode."""
    return model(inputs_embeds=vectors, output_attentions=True).attentions[0][0]


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_the_rate_reaches_attention_in_every_family(family: str, rate: float) -> None:
    """A dropped attention weight is 0 and the others are 1/(1-p) of theirs, although the model came
    with another rate. Only attention that keeps its weights can be looked at: eager."""
    model = twin(family).train()
    model.set_attn_implementation("eager")
    set_dropout(model, 0.9)
    set_dropout(model, rate)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        vectors = model.get_input_embeddings()(IDS)
        found = attention_of(model, vectors)
    seen = torch.ones(8, 8).tril().bool().expand_as(found)
    assert ((found[seen] == 0).float().mean() - rate).abs() < 0.12
    if rate == 0.0:
        with torch.no_grad():
            plain = model.eval()(inputs_embeds=vectors).logits
            assert torch.equal(model.train()(inputs_embeds=vectors).logits, plain)


def losses_of(rate: float, folder: Path) -> list[float]:
    """The loss of four updates on the same problems, by a model that does not move."""
    policy = make_policy(twin("gpt2"))
    slots = Slots(per_step=1, max_stage=3, pad_to_max=True)
    config = SftConfig(lr=0.0, batch_size=4, stages=[4], dropout=rate, weight_decay=0.0)
    stages = Stages((4,), "updates", 1)
    module = SftModule(policy, LAYOUT, Coconut(), slots, stages, TextLoss(), config, 0)
    seen: list[float] = []
    report = module.report
    module.report = lambda metrics: (seen.append(metrics["train/loss"]), report(metrics))[1]
    fit(module, TrainingData(ITEMS, 4, 4, 0), QUIET, folder, "sft", loggers=[], owner={})
    return seen


def test_every_update_drops_other_units(tmp_path: Path) -> None:
    still, moving = losses_of(0.0, tmp_path / "a"), losses_of(0.3, tmp_path / "b")
    assert max(still) - min(still) < 1e-5
    apart = [abs(a - b) for i, a in enumerate(moving) for b in moving[:i]]
    assert len(apart) == 6 and min(apart) > 1e-4
