"""Noise that is not replayed draws anew for every update, and for every part of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from checks import LAYOUT, make_policy, make_prompts, parity, twin

from latentbench.advantage.mean import Mean
from latentbench.config.sections import AnswerConfig, ProtocolConfig, RlConfig, TrainerConfig
from latentbench.data.arithmetic import Arithmetic
from latentbench.evaluation.benchmark import Benchmark
from latentbench.evaluation.stage import evaluate
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.noise.native_dropout import NativeDropout
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import Prompt, Rollouts
from latentbench.reward import Reward
from latentbench.training.data import TrainingData
from latentbench.training.fitting import fit
from latentbench.training.rl import RlModule
from latentbench.training.update import Objective

ITEM = Arithmetic(n_train=1, n_validation=1, n_test=1).load().train
QUIET = TrainerConfig(accelerator="cpu", progress="quiet", checkpoint_every=10_000)


class Watched(RlModule):
    """Keeps what it rolled out."""

    def sample(self, prompts: Any) -> Rollouts:
        self.seen = [*getattr(self, "seen", []), super().sample(prompts)]
        return self.seen[-1]


def states(seed: int, folder: Path) -> list[torch.Tensor]:
    """The states after the slots in three updates on one problem, by a model that never moves."""
    objective = Objective(parity, Mean(), (), Clipped(), Unscored())
    config = RlConfig(updates=3, prompts=1, group_size=4, lr=0.0)
    policy = make_policy(twin("gpt2"), NativeDropout(rate=0.3))
    answer = AnswerConfig(0.0, 4)
    module = Watched(policy, None, LAYOUT, objective, config, answer, [], seed)
    fit(module, TrainingData(ITEM, 1, 3, seed), QUIET, folder, "rl", loggers=[], owner={})
    return [rollouts.last for rollouts in module.seen]


def test_every_update_has_draws_of_its_own(tmp_path: Path) -> None:
    runs = [states(seed, tmp_path / name) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    for one, same, other in zip(*runs, strict=True):
        assert torch.equal(one, same) and not torch.allclose(one, other)
    first, second, third = runs[0]
    assert not torch.allclose(first, second) and not torch.allclose(second, third)


class First(Reward):
    def extract(self, text: str) -> str | None:
        return text[:1] or None

    def __call__(self, text: str, gold: str) -> float:
        return float(text[:1] == gold)


def test_every_part_of_an_evaluation_has_draws_of_its_own(tmp_path: Path) -> None:
    """One question under four identities, each a part: their samples differ."""
    (question,) = make_prompts(1)
    prompts = tuple(Prompt(uid, question.ids, question.cue, "1") for uid in range(4))
    tests = Benchmark("b", prompts, tuple("abcd"), First(), ("first", {}))
    policy = make_policy(twin("gpt2"), NativeDropout(rate=0.5, scope="all"))
    protocol = ProtocolConfig(samples=6, ks=[1], batch_rows=6, explore="latent", thought_items=0)
    answer = AnswerConfig(1.0, 6)
    rows = evaluate(policy, LAYOUT, [tests], protocol, answer, QUIET, "final", tmp_path)[0]
    sampled = rows[rows["decode"] == "sampled"]
    texts = [tuple(own["answer_text"]) for _, own in sampled.groupby("item")]
    assert len(texts) == 4 and len(set(texts)) == 4
