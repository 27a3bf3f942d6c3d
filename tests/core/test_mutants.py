"""Hand-made mistakes, one at a time: the checks of the truth tests must notice every one.

Each mutant is put in by monkeypatching, then a compact check runs that passes on the package as it
is and must fail on the mutant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from checks import (
    ALL_SITES,
    LAYOUT,
    check_columns,
    check_gradient,
    check_mean_values,
    check_replay,
    check_rollouts,
    check_state_reuse,
    check_surrogate_values,
    make_policy,
    make_prompts,
    parity,
    replayed,
    rolled,
    twin,
)
from torch import nn

from latentbench.advantage.mean import Mean
from latentbench.carrier.hidden import Hidden
from latentbench.config.sections import AnswerConfig, RlConfig
from latentbench.keys import Key
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.model import policy as policy_module
from latentbench.model.policy import Policy, State
from latentbench.noise._mask import FeatureMask
from latentbench.noise.per_step_mask import PerStepMask
from latentbench.noise.shared_mask import SharedMask
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import LossOutput, NoiseRecord, PromptBatch, Rollouts, Text
from latentbench.training import rollout as rollout_module
from latentbench.training.rl import RlModule
from latentbench.training.update import Objective

Patch = pytest.MonkeyPatch

SHARED = SharedMask(rate=0.3, sites=ALL_SITES)


# -- compact checks -------------------------------------------------------------------------------


def replay_is_true() -> None:
    check_replay(make_policy(twin("gpt2"), SHARED), make_prompts(3), 0.7)


def per_step_replay_is_true() -> None:
    check_replay(make_policy(twin("gpt2"), PerStepMask(rate=0.3, scope="all")), make_prompts(3))


def latent_replay_is_true() -> None:
    check_replay(make_policy(twin("llama"), SharedMask(0.3, scope="latent")), make_prompts(3))


def rollouts_are_true() -> None:
    check_rollouts(make_policy(twin("gpt2"), SHARED), make_prompts(3), 0.7)


def gradient_is_true() -> None:
    check_gradient(make_policy(twin("gpt2", dtype=torch.float64), SHARED), make_prompts(2))


def states_are_reusable() -> None:
    check_state_reuse(make_policy(twin("gpt2")), make_prompts(3))


def columns_are_right() -> None:
    check_columns()


def order_of_prompts_is_free() -> None:
    """A prompt's rollouts are the same wherever it stands."""
    policy, prompts = make_policy(twin("gpt2"), SHARED), make_prompts(3)
    one, other = rolled(policy, prompts), rolled(policy, prompts[::-1])
    assert one.texts[:3] == other.texts[6:]
    assert torch.equal(one.noise.tensors["mlp.0"][:3], other.noise.tensors["mlp.0"][6:])


def rollouts_have_masks_of_their_own() -> None:
    masks = rolled(make_policy(twin("gpt2"), SHARED), make_prompts(2)).noise.tensors["mlp.0"]
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == len(masks) == 6
    assert set(masks.unique().tolist()) == {0.0, float(torch.tensor(1.0) / (1 - 0.3))}


def rl_module() -> RlModule:
    """A module whose policy came in train mode with dropout."""
    policy = make_policy(twin("gpt2").train(), SHARED)
    objective = Objective(parity, Mean(), (), Clipped(), Unscored())
    config = RlConfig(updates=1, prompts=3, group_size=3, lr=1e-3)
    return RlModule(policy, None, LAYOUT, objective, config, AnswerConfig(), [], 0)


def rl_stays_in_eval_mode() -> None:
    module = rl_module()
    module.train()
    assert not any(part.training for part in module.modules())


def kept_groups_stay_whole() -> None:
    """Groups taken out of a batch carry their own records and scores."""
    policy = make_policy(twin("gpt2"), SHARED)
    rollouts = rolled(policy, make_prompts(4))
    part = rollouts.groups([3, 1])
    ratio = (replayed(policy, part).log_probs - part.answers.log_probs).exp()
    assert (ratio - 1).abs().max() <= 1e-5
    assert part.rewards.flatten().tolist() == [parity(text, "") for text in part.texts]


CHECKS: list[Callable[[], None]] = [
    replay_is_true,
    per_step_replay_is_true,
    latent_replay_is_true,
    rollouts_are_true,
    gradient_is_true,
    states_are_reusable,
    columns_are_right,
    order_of_prompts_is_free,
    rollouts_have_masks_of_their_own,
    rl_stays_in_eval_mode,
    kept_groups_stay_whole,
    check_mean_values,
    check_surrogate_values,
]


# -- mutants --------------------------------------------------------------------------------------


def text_shifted_by_one(patch: Patch) -> None:
    def read(self: Policy, state: State, cue: Any, record: NoiseRecord, text: Text) -> Any:
        vectors = self.model.get_input_embeddings()(text.ids)
        return self._append(state, vectors, text.mask, self.noise.effects(record, -1))[1]

    patch.setattr(Policy, "read", read)


def mask_dropped_at_one_site(patch: Patch) -> None:
    original = policy_module.acting

    def dropped(model: Any, gains: Any) -> Any:
        return original(model, {s: g for s, g in gains.items() if s != "mlp.1"})

    patch.setattr(policy_module, "acting", dropped)


def embedding_mask_dropped(patch: Patch) -> None:
    original = Policy._advance

    def advance(self: Policy, state: State, v: Any, seen: Any, position: Any, *rest: Any) -> Any:
        kept = {s: g for s, g in rest[0].items() if s != "embedding"}
        return original(self, state, v, seen, position, kept, *rest[1:])

    patch.setattr(Policy, "_advance", advance)


def step_index_off_by_one(patch: Patch) -> None:
    patch.setattr(PerStepMask, "column", lambda self, step: step - 1 if step > 0 else step)


def noise_step_shared_in_think(patch: Patch) -> None:
    original = Policy.think

    @dataclass(frozen=True)
    class First:
        noise: Any

        def effects(self, record: NoiseRecord, step: int) -> Any:
            return self.noise.effects(record, 1)

    def think(self: Policy, state: State, record: NoiseRecord, *rest: Any) -> Any:
        return original(replace(self, noise=First(self.noise)), state, record, *rest)

    patch.setattr(Policy, "think", think)


def carrier_detached(patch: Patch) -> None:
    patch.setattr(Hidden, "__call__", lambda self, hidden, *rest: (hidden.detach(), {}))


def last_thought_left_out(patch: Patch) -> None:
    original = Policy.think

    def think(self: Policy, state: State, record: NoiseRecord, *rest: Any) -> Any:
        return original(replace(self, latents=self.latents - 1), state, record, *rest)

    patch.setattr(Policy, "think", think)


def carrier_before_the_norm(patch: Patch) -> None:
    """The hidden state is divided by the norm's own gain: another state than the one fed."""

    def call(self: Hidden, hidden: torch.Tensor, lexicon: Any, effects: Any) -> Any:
        model = lexicon.model
        norm = model.transformer.ln_f if hasattr(model, "transformer") else model.model.norm
        return hidden / norm.weight, {}

    patch.setattr(Hidden, "__call__", call)


def mean_over_the_batch(patch: Patch) -> None:
    patch.setattr(Mean, "__call__", lambda self, groups: groups.rewards - groups.rewards.mean())


def replay_without_mask(patch: Patch) -> None:
    original = Policy.replay

    def replay(self: Policy, prompts: Any, record: Any, *rest: Any, **more: Any) -> Any:
        return original(self, prompts, NoiseRecord(), *rest, **more)

    patch.setattr(Policy, "replay", replay)


def replay_with_fresh_masks(patch: Patch) -> None:
    original = Policy.replay

    def replay(self: Policy, prompts: Any, record: NoiseRecord, *rest: Any, **more: Any) -> Any:
        rolled_over = {s: t.roll(1, dims=0) for s, t in record.tensors.items()}
        return original(self, prompts, NoiseRecord(rolled_over), *rest, **more)

    patch.setattr(Policy, "replay", replay)


def dropout_in_train_mode(patch: Patch) -> None:
    patch.setattr(RlModule, "train", lambda self, mode=True: nn.Module.train(self, mode))


def positions_ignored(patch: Patch) -> None:
    original = Policy._advance

    def advance(self: Policy, state: State, v: Any, seen: Any, position: Any, *rest: Any) -> Any:
        start = state.mask.shape[1]
        plain = torch.arange(start, start + v.shape[1]).expand(len(v), -1)
        return original(self, state, v, seen, plain, *rest)

    patch.setattr(Policy, "_advance", advance)


def padding_attended(patch: Patch) -> None:
    original = Policy._advance

    def advance(self: Policy, state: State, v: Any, seen: Any, position: Any, *rest: Any) -> Any:
        return original(self, state, v, torch.ones_like(seen), position, *rest)

    patch.setattr(Policy, "_advance", advance)


def divided_by_tokens_of_the_rows(patch: Patch) -> None:
    original = Clipped.__call__

    def call(self: Clipped, batch: Any) -> LossOutput:
        swapped = replace(batch, total_rows=batch.total_tokens, total_tokens=batch.total_rows)
        return original(self, swapped)

    patch.setattr(Clipped, "__call__", call)


def maximum_for_minimum(patch: Patch) -> None:
    patch.setattr(torch, "minimum", torch.maximum)


def sign_of_the_loss(patch: Patch) -> None:
    original = Clipped.__call__

    def call(self: Clipped, batch: Any) -> LossOutput:
        output = original(self, batch)
        return replace(output, loss=-output.loss)

    patch.setattr(Clipped, "__call__", call)


def interleave_forgotten(kind: str, attribute: str) -> Callable[[Patch], None]:
    def mutate(patch: Patch) -> None:
        target = {"batch": PromptBatch, "replay": Policy}[kind]
        original: Any = getattr(target, attribute)

        def mutated(self: Any, *args: Any, **more: Any) -> Any:
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(
                    torch.Tensor, "repeat_interleave", lambda t, n, dim=0: torch.cat([t] * n)
                )
                return original(self, *args, **more)

        patch.setattr(target, attribute, mutated)

    mutate.__name__ = f"interleave_forgotten_in_{attribute}"
    return mutate


def cue_from_the_question_alone(patch: Patch) -> None:
    original = Policy.read

    def read(self: Policy, state: State, cue: torch.Tensor, *rest: Any) -> Any:
        return original(self, state, cue.roll(1), *rest)

    patch.setattr(Policy, "read", read)


def uniforms_by_place_in_the_batch(patch: Patch) -> None:
    def keys(seed: int, purpose: Any, step: int, prompts: Any, size: int) -> list[Key]:
        return [Key(seed, purpose, step, i, k) for i in range(len(prompts)) for k in range(size)]

    patch.setattr(rollout_module, "rollout_keys", keys)


def one_mask_for_the_whole_group(patch: Patch) -> None:
    original = FeatureMask.draw

    def draw(self: FeatureMask, keys: Any, sites: Any, latents: int) -> NoiseRecord:
        return original(self, [replace(key, rollout=0) for key in keys], sites, latents)

    patch.setattr(FeatureMask, "draw", draw)


def mask_without_rescaling(patch: Patch) -> None:
    original = FeatureMask.draw

    def draw(self: FeatureMask, keys: Any, sites: Any, latents: int) -> NoiseRecord:
        record = original(self, keys, sites, latents)
        return NoiseRecord({s: (t != 0).float() for s, t in record.tensors.items()})

    patch.setattr(FeatureMask, "draw", draw)


def temperature_not_replayed(patch: Patch) -> None:
    original = Policy.replay

    def replay(self: Policy, prompts: Any, record: Any, text: Any, size: int, _t: Any = 1) -> Any:
        return original(self, prompts, record, text, size, 1.0)

    patch.setattr(Policy, "replay", replay)


def forbidden_tokens_scored(patch: Patch) -> None:
    original = Policy.replay

    def replay(self: Policy, *args: Any, **more: Any) -> Any:
        return original(replace(self, forbidden=()), *args, **more)

    patch.setattr(Policy, "replay", replay)


def end_of_text_not_scored(patch: Patch) -> None:
    original = Policy.decode

    def decode(self: Policy, *args: Any, **more: Any) -> Any:
        answers = original(self, *args, **more)
        mask = answers.text.mask * (answers.text.ids != self.eos)
        return replace(answers, text=Text(answers.text.ids, mask))

    patch.setattr(Policy, "decode", decode)


def cache_grown_in_place(patch: Patch) -> None:
    patch.setattr(policy_module, "_fork", lambda cache: cache)


def groups_lose_their_records(patch: Patch) -> None:
    original = Rollouts.groups

    def groups(self: Rollouts, index: Any) -> Rollouts:
        part = original(self, index)
        first = torch.arange(len(part.texts))
        return replace(part, noise=self.noise.rows(first))

    patch.setattr(Rollouts, "groups", groups)


MUTANTS: list[tuple[Callable[[Patch], None], Callable[[], None]]] = [
    (text_shifted_by_one, replay_is_true),
    (mask_dropped_at_one_site, replay_is_true),
    (embedding_mask_dropped, replay_is_true),
    (step_index_off_by_one, columns_are_right),
    (noise_step_shared_in_think, per_step_replay_is_true),
    (carrier_detached, gradient_is_true),
    (last_thought_left_out, replay_is_true),
    (carrier_before_the_norm, replay_is_true),
    (mean_over_the_batch, check_mean_values),
    (replay_without_mask, replay_is_true),
    (replay_with_fresh_masks, per_step_replay_is_true),
    (dropout_in_train_mode, rl_stays_in_eval_mode),
    (positions_ignored, replay_is_true),
    (padding_attended, replay_is_true),
    (divided_by_tokens_of_the_rows, check_surrogate_values),
    (maximum_for_minimum, check_surrogate_values),
    (sign_of_the_loss, check_surrogate_values),
    (interleave_forgotten("batch", "repeat"), replay_is_true),
    (interleave_forgotten("replay", "replay"), latent_replay_is_true),
    (cue_from_the_question_alone, latent_replay_is_true),
    (uniforms_by_place_in_the_batch, order_of_prompts_is_free),
    (uniforms_by_place_in_the_batch, rollouts_are_true),
    (one_mask_for_the_whole_group, rollouts_have_masks_of_their_own),
    (mask_without_rescaling, rollouts_have_masks_of_their_own),
    (temperature_not_replayed, replay_is_true),
    (forbidden_tokens_scored, latent_replay_is_true),
    (end_of_text_not_scored, rollouts_are_true),
    (cache_grown_in_place, states_are_reusable),
    (groups_lose_their_records, kept_groups_stay_whole),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_passes_the_check(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize(
    ("mutate", "check"), MUTANTS, ids=lambda part: getattr(part, "__name__", "")
)
def test_the_check_notices(
    mutate: Callable[[Patch], None], check: Callable[[], None], monkeypatch: Patch
) -> None:
    """By a failed assertion, not by a crash of the mutant."""
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        check()
