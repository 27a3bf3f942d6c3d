"""What is not finite is no result: rollouts, validation, evaluation and updates say so and stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from checks import LAYOUT, make_policy, make_prompts, naive_rollout_scores, parity, rolled, twin
from test_rl_step import MASK, fitted, module_of, objective_of

from latentbench.config.sections import AnswerConfig, ProtocolConfig
from latentbench.errors import NotFinite
from latentbench.evaluation.benchmark import Benchmark, Examination
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import LossInput, LossOutput
from latentbench.reward.exact_number import ExactNumber
from latentbench.training.greedy import greedy_accuracy

PROMPTS = make_prompts(3)


def harmed(value: float) -> Any:
    """A model whose logits come from a weight that is no number."""
    model = twin("gpt2")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = value
    return model


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_answers_from_such_logits_are_no_answers(value: float) -> None:
    policy = make_policy(harmed(value))
    uid = f"{PROMPTS[0].uid:016x}"
    protocol = ProtocolConfig(samples=2, ks=[1], temperature=1.0, batch_rows=8)
    benchmark = Benchmark("sums", tuple(PROMPTS), reward=ExactNumber())
    examination = Examination(policy, benchmark, LAYOUT, protocol, 4, "final")
    asked: dict[str, Callable[[], Any]] = {
        "rl update 7: rollouts": lambda: rolled(policy, PROMPTS, step=7),
        "rl update 7": lambda: rolled(policy, PROMPTS, step=7, temperature=0.0),
        "validation": lambda: greedy_accuracy(policy, PROMPTS, LAYOUT, parity, 4, "validation"),
        r"evaluation of sums \(final\)": lambda: examination.answer([0, 1, 2], None),
    }
    for where, answers in asked.items():
        with pytest.raises(NotFinite, match=rf"^{where}.*{uid}.*lower the learning rate"):
            answers()


@pytest.mark.parametrize("lr", [1e20, 1e30])
def test_weights_that_fly_away_end_the_run(lr: float, tmp_path: Path) -> None:
    module = module_of(make_policy(twin("gpt2"), MASK), updates=4, lr=lr)
    with pytest.raises(NotFinite):
        fitted(tmp_path, module)
    assert module.update < 3


def test_a_run_that_took_no_step_is_none(tmp_path: Path) -> None:
    """Fewer updates than the five in a row that end a longer run, each of them skipped."""

    @dataclass(frozen=True)
    class Broken:
        def __call__(self, batch: LossInput) -> LossOutput:
            output = Clipped()(batch)
            return LossOutput(output.loss * torch.inf, output.sums)

    module = module_of(make_policy(twin("gpt2"), MASK), objective_of(policy_loss=Broken()))
    with pytest.raises(NotFinite, match=r"of 2 updates 2 had gradients .* no step was taken"):
        fitted(tmp_path, module)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_entropy_is_that_of_all_answers(temperature: float, tmp_path: Path) -> None:
    """Groups that teach nothing count as well, and so do updates without any other."""
    policy = make_policy(twin("gpt2"), MASK)
    answer = AnswerConfig(temperature, 5)
    flat = objective_of(reward=lambda text, gold: 1.0)
    module = fitted(tmp_path, module_of(policy, flat, answer, updates=1))
    assert module.silent_updates == 1
    scores = naive_rollout_scores(policy, module.seen[0], temperature)
    expected = torch.cat([scored.entropy for scored in scores]).mean()
    assert module.curves[0]["train/answer_entropy"] == pytest.approx(float(expected), abs=1e-5)
