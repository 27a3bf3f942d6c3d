"""Stages that end when the model can do them."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checks import LAYOUT, make_policy, twin
from driver import inside

from latentbench.config.sections import SftConfig, TrainerConfig
from latentbench.curriculum.coconut import Coconut
from latentbench.data._chains import solve
from latentbench.errors import DidNotLearn
from latentbench.records import Slots
from latentbench.reward.exact_number import ExactNumber
from latentbench.sft_loss.text import TextLoss
from latentbench.training import gate as gates
from latentbench.training.data import Stages, TrainingData, sft_rows
from latentbench.training.fitting import fit
from latentbench.training.gate import Gate
from latentbench.training.sft import SftModule

QUIET = TrainerConfig(accelerator="cpu", progress="quiet", checkpoint_every=1)
SLOTS = Slots(per_step=1, max_stage=3, pad_to_max=False)
ITEMS = [
    solve((1, 2), "+", 10),
    solve((3, 4, 9), "+-", 10),
    solve((7, 1, 1, 2), "++-", 10),
    solve((5, 5, 5, 5, 5), "-+-+", 10),
]
BASE: dict[str, Any] = {"lr": 1e-3, "batch_size": 4, "stages": [9, 9], "gate": 0.9}


def gate_for(**changes: Any) -> Gate:
    needs = {"gate": 0.9, "target": 0.6, "every": 2, "target_every": 1}
    made = Gate(ITEMS, LAYOUT, Coconut(), SLOTS, ExactNumber(), 24, **needs)  # type: ignore[arg-type]
    return replace(made, **changes)


class Watched(SftModule):
    """An SFT module that notes the rate of every update."""

    rates: list[float]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        optimizer: Any = self.optimizers()
        self.rates.append(optimizer.param_groups[0]["lr"])


def fitted(directory: Path, gate: Gate | None = None, model: Any = None, **changes: Any) -> Watched:
    settings = SftConfig(**(BASE | changes))
    stages = Stages(tuple(settings.stages), "updates", 1)
    feed = TrainingData(ITEMS, len(ITEMS), stages.total, 0)
    policy = make_policy(model or twin("gpt2"))
    module = Watched(
        policy, LAYOUT, Coconut(), SLOTS, stages, TextLoss(), settings, 0, gate=gate or gate_for()
    )
    module.rates = []
    fit(module, feed, QUIET, directory, "sft", loggers=[], owner={})
    return module


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the gate see these accuracies, one after the other, whatever the model does."""

    def script(*accuracies: float) -> None:
        seen = itertools.chain(accuracies, itertools.repeat(0.0))
        monkeypatch.setattr(Gate, "accuracy", lambda self, policy, stage: next(seen))

    return script


def test_a_stage_ends_with_the_first_look_that_is_good_enough(tmp_path: Path, seeing: Any) -> None:
    """Looks after every second update of a stage until 0.9; in the last after each until 0.6."""
    seeing(0.5, 0.89, 0.9, 0.59, 0.6)
    module = fitted(tmp_path)
    assert module.looks == [
        {"stage": 0, "updates": 6, "accuracy": 0.9, "passed": True},
        {"stage": 1, "updates": 2, "accuracy": 0.6, "passed": True},
    ]
    assert module.update == 8 and module.stage is None


def test_the_last_stage_has_its_share_of_the_rate(tmp_path: Path, seeing: Any) -> None:
    seeing(1.0, 1.0)
    module = fitted(tmp_path, last_lr=0.25)
    assert module.rates == pytest.approx([1e-3, 1e-3, 2.5e-4])


def test_a_stage_without_its_gate_ends_the_run(tmp_path: Path, seeing: Any) -> None:
    seeing(0.9, 0.5)
    with pytest.raises(DidNotLearn, match=r"stage 1 .* 0\.0% .* 3 updates and needs 60\.0%"):
        fitted(tmp_path, stages=[9, 3])


def test_unless_it_is_told_to_go_on(tmp_path: Path, seeing: Any) -> None:
    seeing(0.2, 0.3, 0.5, 0.4)
    module = fitted(tmp_path, stages=[3, 2], at_cap="go_on")
    assert module.looks == [
        {"stage": 0, "updates": 3, "accuracy": 0.3, "passed": False},
        {"stage": 1, "updates": 2, "accuracy": 0.4, "passed": False},
    ]


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_an_interrupted_training_ends_as_if_it_was_not(
    tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gates that open by the model's own weights; every one is the same to the bit."""
    start = [weight.detach().clone() for weight in twin("gpt2").parameters()]

    def accuracy(self: Gate, policy: Any, stage: int) -> float:
        pairs = zip(policy.model.parameters(), start, strict=True)
        moved = max(float((weight - old).abs().max()) for weight, old in pairs)
        return float(stage == 1 or moved > 6.5e-3)  # the rate is 1e-3: after seven updates

    monkeypatch.setattr(Gate, "accuracy", accuracy)
    whole = fitted(tmp_path / "whole", stages=[40, 9])
    step = SftModule.training_step

    def stopping(self: Any, batch: Any, batch_idx: int) -> None:
        if self.update == stop:
            raise RuntimeError("killed")
        step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SftModule, "training_step", stopping)
        with pytest.raises(RuntimeError, match="killed"):
            fitted(tmp_path / "cut", stages=[40, 9])
    again = fitted(tmp_path / "cut", stages=[40, 9])
    assert again.looks == whole.looks and again.update == whole.update > stop
    pairs = zip(again.model.parameters(), whole.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_finished_training_adds_no_update(tmp_path: Path, seeing: Any) -> None:
    seeing(1.0, 1.0)
    first = fitted(tmp_path)
    again = fitted(tmp_path)
    assert again.update == first.update == 3 and again.rates == []
    pairs = zip(again.model.parameters(), first.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("stage", [0, 1, 3, 4])
def test_accuracy_counts_right_answers_at_the_stage_s_own_layout(
    stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against one problem at a time: its own slots, and the answer that plain decoding gives. The
    items have 1 to 4 steps, so that they differ in their slots, and golds are chosen by what the
    model says, so that a known share is right."""
    policy = make_policy(twin("gpt2"))
    gate = gate_for()
    texts = [alone(policy, item, stage) for item in ITEMS]
    monkeypatch.setattr(
        gates,
        "greedy_accuracy",
        lambda p, prompts, layout, reward, budget, where: ORIGINAL(
            p, prompts, layout, lambda text, gold: float(text in texts[:3]), budget, where
        ),
    )
    expected = sum(text in texts[:3] for text in texts) / 4
    assert gate.accuracy(policy, stage) == expected >= 0.75


ORIGINAL = gates.greedy_accuracy


def alone(policy: Any, item: Any, stage: int) -> str:
    """The greedy text after one prompt and its slots, each token from a forward of everything."""
    model, marks = policy.model, LAYOUT.markers
    latents, _ = Coconut().split(item, stage, SLOTS)
    prompt = LAYOUT.prompt(item)
    table = model.get_input_embeddings()
    vectors = table(torch.tensor(prompt.ids))
    with torch.no_grad():
        for _ in range(latents):
            thought = model.base_model(inputs_embeds=vectors[None]).last_hidden_state[0, -1:]
            vectors = torch.cat([vectors, thought])
        vectors = torch.cat([vectors, table(torch.tensor([prompt.cue]))])
        written: list[int] = []
        for _ in range(24):
            scores = model(inputs_embeds=vectors[None]).logits[0, -1]
            scores[list(policy.forbidden)] = -torch.inf
            written.append(int(scores.argmax()))
            if written[-1] == marks.eos:
                break
            vectors = torch.cat([vectors, table(torch.tensor(written[-1:]))])
    return LAYOUT.decode(written)


def test_a_batch_may_stand_in_one_stage_as_a_whole() -> None:
    """Half of the batches at an earlier stage, each of the three (or this) as often."""
    settings = SftConfig(**BASE, mix=0.5, mix_by="batch")
    items = [ITEMS[3]] * 3
    found = []
    for update in range(600):
        rows = sft_rows(items, 2, update, Coconut(), SLOTS, LAYOUT, settings, 0)
        assert len({row.latents for row in rows}) == 1
        found.append(rows[0].latents)
    shares = [found.count(latents) / len(found) for latents in (0, 1, 2)]
    assert shares == pytest.approx([1 / 6, 1 / 6, 2 / 3], abs=0.06)


def test_a_run_that_does_not_learn_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = inside("limit.sft_updates_per_stage=2", "hydra.run.dir=run")
    assert outcome.code == 1
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("failed: SFT stage 0")
    assert "sft.at_cap=go_on" in lines[0] and "Traceback" not in outcome.out
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["status"] == "failed" and "stage 0" in result["error"]
