"""An answer is scored again at the temperature it was written at; a stored thought at 1, the law
that its token types were picked from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks import LAYOUT, gap, make_policy, make_prompts, naive_rollout_scores, parity, twin
from plain import naive_stored, policy_with

from latentbench.advantage.mean import Mean
from latentbench.carrier.mixture import Mixture
from latentbench.config.sections import AnswerConfig, RlConfig
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.latent_loss.soft_ce import SoftCe
from latentbench.noise.gumbel import Gumbel
from latentbench.noise.shared_mask import SharedMask
from latentbench.policy_loss.clipped import Clipped
from latentbench.training.rl import RlModule
from latentbench.training.update import Objective


def module_at(temperature: float, policy: Any, latent_loss: Any) -> RlModule:
    objective = Objective(parity, Mean(), (), Clipped(), latent_loss)
    config = RlConfig(updates=1, prompts=3, group_size=3, lr=1e-3)
    answer = AnswerConfig(temperature, 6)
    return RlModule(policy, None, LAYOUT, objective, config, answer, [], 0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_training_replays_at_the_temperature_of_the_answers(temperature: float) -> None:
    policy = make_policy(twin("gpt2"), SharedMask(rate=0.3))
    module = module_at(temperature, policy, Unscored())
    rollouts = module.sample(make_prompts(3))
    found = module.scorer.replay(rollouts).log_probs.detach()
    mask = rollouts.answers.text.mask.bool()
    assert gap(found, rollouts.answers.log_probs) < 1e-5
    for row, scored in enumerate(naive_rollout_scores(policy, rollouts, temperature)):
        assert gap(found[row, mask[row]], scored.log_probs) < 1e-5
    if temperature != 1.0:
        plain = naive_rollout_scores(policy, rollouts, 1.0)
        assert gap(found[0, mask[0]], plain[0].log_probs) > 1e-2, "the temperature must matter"


@pytest.mark.parametrize("temperature", [0.5, 1.7])
def test_stored_choices_are_scored_at_temperature_one(temperature: float) -> None:
    policy = policy_with(twin("gpt2"), Mixture(k=5), Gumbel(top_k=8))
    module = module_at(temperature, policy, SoftCe())
    rollouts = module.sample(make_prompts(3))
    with torch.no_grad():
        replay = module.scorer.replay(rollouts)
    assert replay.choice_log_probs is not None
    choice = rollouts.thoughts.choice
    assert gap(replay.choice_log_probs, choice["log_probs"]) < 1e-5
    for row, length in enumerate(rollouts.answers.text.mask.sum(dim=1).tolist()):
        laws, scores = naive_stored(
            policy,
            rollouts.prompts[row // 3],
            rollouts.thoughts.vectors[row],
            rollouts.answers.text.ids[row, :length].tolist(),
            temperature,
        )
        assert gap(replay.choice_log_probs[row], laws.gather(-1, choice["ids"][row])) < 1e-5
        assert gap(replay.log_probs[row, :length], scores) < 1e-5
