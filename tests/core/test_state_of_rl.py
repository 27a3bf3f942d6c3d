"""What an RL run counts, when it gives up, and what an interrupted one goes on from."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checks import LAYOUT, make_policy, parity, twin

from latentbench.advantage.mean import Mean
from latentbench.config.sections import AnswerConfig, RlConfig, TrainerConfig
from latentbench.data.arithmetic import Arithmetic
from latentbench.errors import NotFinite
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.policy_loss.clipped import Clipped
from latentbench.training.data import TrainingData
from latentbench.training.fitting import fit
from latentbench.training.rl import RlModule
from latentbench.training.update import Objective

ITEMS = Arithmetic(n_train=9, n_validation=1, n_test=1).load().train
QUIET = TrainerConfig(accelerator="cpu", progress="quiet", checkpoint_every=10_000)


def module_of(**changes: Any) -> Any:
    sizes: dict[str, Any] = {"updates": 1, "prompts": 4, "group_size": 4, "lr": 1e-3}
    config = RlConfig(**(sizes | changes))
    objective = Objective(parity, Mean(), (), Clipped(), Unscored())
    policy = make_policy(twin("gpt2"))
    module: Any = RlModule(policy, None, LAYOUT, objective, config, AnswerConfig(1.0, 6), [], 0)
    module.full_precision = lambda: True
    return module


def step(module: Any, slope: float) -> bool:
    """Hand over a gradient with this entry; whether a step was taken."""
    taken: list[bool] = []
    for parameter in module.model.parameters():
        parameter.grad = torch.full_like(parameter, slope)
    module.take_step(SimpleNamespace(step=lambda: taken.append(True)), 0.0)
    return bool(taken)


@pytest.mark.parametrize("slope", [math.nan, math.inf, -math.inf])
def test_five_gradients_in_a_row_that_are_no_numbers_end_the_run(slope: float) -> None:
    module = module_of()
    assert [step(module, slope) for _ in range(4)] == [False] * 4
    with pytest.raises(NotFinite, match=r"5 gradients in a row.*lower rl.lr"):
        step(module, slope)
    assert module.skipped_updates == 5


def test_a_good_one_between_starts_the_count_anew() -> None:
    module = module_of()
    for _ in range(3):
        assert [step(module, math.nan) for _ in range(4)] == [False] * 4
        assert step(module, 1e-3)
    assert module.skipped_updates == 12


@pytest.mark.parametrize(("clip", "norm"), [(0.5, 0.5), (1e6, None), (None, None)])
def test_a_gradient_is_clipped_to_its_norm(clip: float | None, norm: float | None) -> None:
    module = module_of(grad_clip=clip)
    assert step(module, 2.0)
    size = sum(p.numel() for p in module.model.parameters())
    found = torch.stack([p.grad.square().sum() for p in module.model.parameters()]).sum().sqrt()
    assert float(found) == pytest.approx(norm or 2.0 * math.sqrt(size), rel=1e-4)


def test_an_interrupted_run_goes_on_from_all_that_it_has_counted() -> None:
    """The best weights among it: a later end must be able to give them back."""
    counted = {
        "update": 7,
        "silent_updates": 3,
        "skipped_updates": 2,
        "mixed_groups": 11,
        "bad_updates": 1,
        "best": {"accuracy": 0.5, "update": 4, "weights": {"a": torch.ones(2)}},
    }
    module, fresh = module_of(), module_of()
    for name, value in counted.items():
        assert getattr(fresh, name) != value and hasattr(module, name)
        setattr(module, name, value)
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    fresh.on_load_checkpoint(checkpoint)
    assert {name: getattr(fresh, name) for name in counted} == counted


def test_mixed_groups_are_counted_over_all_that_was_rolled_out(tmp_path: Path) -> None:
    """In every update, spare groups among them, whether they are learnt from or not."""
    module = module_of(updates=3, prompts=1, keep="mixed", over_provision=3)
    seen: list[int] = []
    sample = module.sample

    def counting(prompts: Any) -> Any:
        rollouts = sample(prompts)
        seen.append(sum(len(set(row)) > 1 for row in rollouts.rewards.tolist()))
        return rollouts

    module.sample = counting
    del module.full_precision
    fit(module, TrainingData(ITEMS, 3, 3, 0), QUIET, tmp_path, "rl", loggers=[], owner={})
    assert len(seen) == 3 and module.mixed_groups == sum(seen) > max(seen) > 1
