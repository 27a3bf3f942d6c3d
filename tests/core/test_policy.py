"""The latent policy computes what a plain forward over the whole row computes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from checks import (
    ALL_SITES,
    ALLOWED,
    FORBIDDEN,
    LATENTS,
    LAYOUT,
    branches_by_name,
    check_gradient,
    check_state_reuse,
    gains_of_row,
    gap,
    gradient_gap,
    gradients,
    make_policy,
    make_prompts,
    naive_scores,
    replay_and_naive_gradients,
    replayed,
    rolled,
    twin,
    with_latents,
)

from latentbench.errors import InputError
from latentbench.keys import Key, Purpose
from latentbench.model.families import residual_branches
from latentbench.model.policy import acting, check_fits
from latentbench.noise import Gain, Site
from latentbench.noise.none import None_
from latentbench.noise.per_step_mask import PerStepMask
from latentbench.noise.shared_mask import SharedMask
from latentbench.records import (
    NoiseRecord,
    Prompt,
    Text,
    collate_prompts,
    collate_text,
    dispersion,
)

NOISES = (None_(), SharedMask(rate=0.3), PerStepMask(rate=0.3, scope="all", sites=ALL_SITES))


def some_texts(count: int) -> list[list[int]]:
    rng = np.random.default_rng(1)
    return [[int(t) for t in rng.choice(ALLOWED, size=1 + i % 4)] for i in range(count)]


def scored(
    policy: Any, prompts: list[Prompt], texts: list[list[int]], record: NoiseRecord
) -> tuple[Any, Text]:
    text = collate_text(texts, LAYOUT.markers.eos)
    batch = collate_prompts(prompts, LAYOUT.markers.pad)
    return policy.replay(batch, record, text, 1), text


def record_for(policy: Any, prompts: list[Prompt]) -> NoiseRecord:
    keys = [Key(0, Purpose.NOISE, 0, prompt.uid) for prompt in prompts]
    return policy.noise.draw(keys, policy.sites(), policy.latents)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: type(noise).__name__)
@pytest.mark.parametrize("latents", [0, 1, 3, 5])
def test_cached_equals_one_full_forward(model: Any, noise: Any, latents: int) -> None:
    """Cache, padding and batch against one uncached forward over prompt, thoughts, cue, text."""
    policy = with_latents(make_policy(model, noise), latents)
    prompts, texts = make_prompts(4), some_texts(4)
    record = record_for(policy, prompts)
    with torch.no_grad():
        replay, _ = scored(policy, prompts, texts, record)
        for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            gains = gains_of_row(noise, record, row)
            naive = naive_scores(model, prompt, text, latents, FORBIDDEN, 1.0, gains)
            assert gap(replay.log_probs[row, : len(text)], naive.log_probs) <= 1e-5
            assert gap(replay.entropy[row, : len(text)], naive.entropy) <= 1e-5
            assert gap(replay.thoughts[row], naive.thoughts) <= 1e-5
            assert (replay.log_probs[row, len(text) :] == 0).all()


def test_a_prompt_scores_the_same_alone_and_beside_longer_ones(model: Any) -> None:
    policy = make_policy(model)
    longest = Prompt(9, tuple(range(3, 33)), 40)
    prompts, texts = [*make_prompts(3), longest], some_texts(4)
    with torch.no_grad():
        together, _ = scored(policy, prompts, texts, NoiseRecord())
        assert torch.isfinite(together.log_probs).all() and torch.isfinite(together.thoughts).all()
        for row, prompt in enumerate(prompts):
            alone, own = scored(policy, [prompt], [texts[row]], NoiseRecord())
            width = own.ids.shape[1]
            assert gap(together.log_probs[row, :width], alone.log_probs[0]) <= 1e-5
            assert gap(together.thoughts[row], alone.thoughts[0]) <= 1e-5


def test_what_stands_at_padding_does_not_matter(model: Any) -> None:
    """Other token ids under the mask, in prompts and texts, change nothing, to the bit."""
    policy = make_policy(model)
    prompts, texts = make_prompts(3), some_texts(3)
    batch, text = collate_prompts(prompts, 0), collate_text(texts, LAYOUT.markers.eos)
    other = replace(batch, ids=torch.where(batch.mask.bool(), batch.ids, 77))
    filled = Text(torch.where(text.mask.bool(), text.ids, 55), text.mask)
    assert not torch.equal(other.ids, batch.ids) and not torch.equal(filled.ids, text.ids)
    with torch.no_grad():
        one = policy.replay(batch, NoiseRecord(), text, 1)
        two = policy.replay(other, NoiseRecord(), filled, 1)
    assert torch.equal(one.log_probs, two.log_probs) and torch.equal(one.thoughts, two.thoughts)


def test_a_thought_is_the_post_norm_hidden_state_before_its_slot(model: Any) -> None:
    """Against plain `output_hidden_states[-1]` over the row that was fed, and no other layer's."""
    policy, prompt = make_policy(model), make_prompts(1)[0]
    with torch.no_grad():
        _, thoughts = policy.latent_phase(collate_prompts([prompt], 0), NoiseRecord(), 1)
        thoughts = thoughts.vectors
        embedded = model.get_input_embeddings()(torch.tensor(prompt.ids))
        row = torch.cat([embedded, thoughts[0]])
        states = model(inputs_embeds=row[None], output_hidden_states=True).hidden_states
    start = len(prompt.ids)
    before = states[-1][0, start - 1 : start - 1 + LATENTS]
    assert thoughts.shape == (1, LATENTS, 32)
    assert gap(thoughts[0], before) <= 1e-5
    assert gap(thoughts[0], states[-2][0, start - 1 : start - 1 + LATENTS]) > 0.1


@pytest.mark.parametrize(
    ("noise", "rows"),
    [
        (None_(), [2, 2, 2, 2, 6]),
        (SharedMask(scope="latent"), [2, 6, 6, 6, 6]),
        (SharedMask(), [6, 6, 6, 6, 6]),
    ],
    ids=["none", "latent", "prompt"],
)
def test_a_replay_runs_prompt_each_slot_and_text_once(
    model: Any, noise: Any, rows: list[int]
) -> None:
    """T latents need T + 2 forwards, and what rollouts share runs once per prompt."""
    policy = make_policy(model, noise)
    rollouts = rolled(policy, make_prompts(2))
    seen: list[tuple[int, int]] = []

    def count(_module: Any, _args: Any, kwargs: dict[str, Any], _output: Any) -> None:
        seen.append(tuple(kwargs["inputs_embeds"].shape[:2]))

    handle = model.base_model.register_forward_hook(count, with_kwargs=True)
    replayed(policy, rollouts)
    handle.remove()
    assert [row for row, _ in seen] == rows
    width = max(len(prompt.ids) for prompt in rollouts.prompts)
    tokens = rollouts.answers.text.ids.shape[1]
    assert [length for _, length in seen] == [width, 1, 1, 1, tokens]


def test_the_head_is_applied_to_text_positions_only(model: Any) -> None:
    policy, prompts = make_policy(model), make_prompts(3)
    seen: list[int] = []
    head = model.get_output_embeddings()
    handle = head.register_forward_hook(
        lambda _m, inputs, _o: seen.append(inputs[0].shape.numel() // inputs[0].shape[-1])
    )
    rollouts = rolled(policy, prompts)
    tokens = int(rollouts.answers.text.mask.sum())
    assert tokens < rollouts.answers.text.mask.numel(), "some row must end early for this test"
    assert sum(seen) == tokens
    seen.clear()
    replayed(policy, rollouts)
    handle.remove()
    assert seen == [tokens]


def test_permuting_rows_permutes_scores(exact_model: Any) -> None:
    policy = make_policy(exact_model, PerStepMask(rate=0.3))
    prompts, texts = make_prompts(5), some_texts(5)
    record = record_for(policy, prompts)
    order = torch.tensor([3, 0, 4, 2, 1])
    with torch.no_grad():
        one, _ = scored(policy, prompts, texts, record)
        mixed = [prompts[i] for i in order], [texts[i] for i in order]
        other, _ = scored(policy, *mixed, record.rows(order))
    assert gap(other.log_probs, one.log_probs[order]) <= 1e-12
    assert gap(other.thoughts, one.thoughts[order]) <= 1e-12


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: type(noise).__name__)
def test_the_gradient_is_that_of_the_uncached_computation(exact_model: Any, noise: Any) -> None:
    """Backpropagation through thoughts and cached keys and values, all parameters, in float64."""
    check_gradient(make_policy(exact_model, noise), make_prompts(2))


@dataclass(frozen=True)
class Detached:
    """Coconut's carrier with the chain cut."""

    sites: ClassVar[tuple[str, ...]] = ()
    chooses: ClassVar[bool] = False

    def __call__(self, hidden: torch.Tensor, lexicon: Any, effects: Any) -> Any:
        return hidden.detach(), {}


def test_a_detached_carrier_has_another_gradient(exact_model: Any) -> None:
    policy = replace(make_policy(exact_model), carrier=Detached())
    mine, naive = replay_and_naive_gradients(policy, make_prompts(2))
    assert gradient_gap(mine, naive) > 1e-2


@pytest.mark.parametrize("noise", [None_(), SharedMask(rate=0.3)], ids=["none", "shared_mask"])
def test_the_gradient_equals_central_differences(family: str, exact_model: Any, noise: Any) -> None:
    """Single entries of every fifth parameter, and one direction through all of them."""
    policy = make_policy(exact_model, noise)
    rollouts = rolled(make_policy(twin(family), noise), make_prompts(2))
    weights = torch.linspace(-1, 1.5, rollouts.answers.text.ids.numel(), dtype=torch.float64)
    weights = weights.reshape(rollouts.answers.text.ids.shape)

    def value() -> torch.Tensor:
        return (replayed(policy, rollouts).log_probs * weights).sum()

    found = gradients(exact_model, value())
    parameters = list(exact_model.parameters())
    rng = np.random.default_rng(0)
    step = 1e-5
    with torch.no_grad():
        for index in range(0, len(parameters), 5):
            slope, flat = found[index].flatten(), parameters[index].view(-1)
            place = int(slope.abs().argmax()) if index % 2 else int(rng.integers(len(flat)))
            start = float(flat[place])
            flat[place] = start + step
            above = float(value())
            flat[place] = start - step
            below = float(value())
            flat[place] = start
            assert abs((above - below) / (2 * step) - float(slope[place])) < 1e-6
        directions = [torch.from_numpy(rng.standard_normal(p.shape)) for p in parameters]
        expected = sum(float((g * d).sum()) for g, d in zip(found, directions, strict=True))
        values = []
        for sign in (1, -2):
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=sign * 1e-6)
            values.append(float(value()))
        assert abs((values[0] - values[1]) / 2e-6 / expected - 1) < 1e-5


def test_changing_one_question_token_changes_every_thought(model: Any) -> None:
    policy = make_policy(model)
    prompt = Prompt(1, (5, 9, 33, 12, 60, 7), 8)
    for place in range(len(prompt.ids)):
        ids = list(prompt.ids)
        ids[place] = 44
        batch = collate_prompts([prompt, replace(prompt, ids=tuple(ids))], 0)
        with torch.no_grad():
            _, thoughts = policy.latent_phase(batch, NoiseRecord(), 1)
        moved = (thoughts.vectors[0] - thoughts.vectors[1]).abs().amax(dim=-1)
        assert (moved > 1e-3).all()


def test_every_thought_and_the_cue_reach_the_text(model: Any) -> None:
    """The gradient of the text's score is not zero at any thought, nor does the cue go unread."""
    policy, prompt = make_policy(model), make_prompts(1)[0]
    text = Text(torch.tensor([ALLOWED[:3]]), torch.ones(1, 3, dtype=torch.long))
    batch = collate_prompts([prompt], 0)
    state, thoughts = policy.latent_phase(batch, NoiseRecord(), 1)
    hidden = policy.read(state, batch.cue, NoiseRecord(), text)
    (slope,) = torch.autograd.grad(
        hidden[0, -1].square().sum(), [thoughts.vectors], allow_unused=True
    )
    assert slope is None, "thoughts are joined apart from the chain"
    other = policy.read(state, batch.cue + 1, NoiseRecord(), text)
    assert gap(hidden, other) > 1e-3


def hooks(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_gains_leave_no_hook_behind(model: Any) -> None:
    policy = make_policy(model, SharedMask(rate=0.3, sites=ALL_SITES, scope="all"))
    rollouts = rolled(policy, make_prompts(2))
    replayed(policy, rollouts)
    assert hooks(model) == 0
    gain = dict.fromkeys(("attention.0", "mlp.1"), Gain(torch.ones(1, 1, 32)))
    with pytest.raises(ZeroDivisionError), acting(model, gain):
        assert hooks(model) == 2
        raise ZeroDivisionError
    assert hooks(model) == 0


def test_sites_are_the_outputs_of_both_branches_of_every_block(model: Any) -> None:
    assert residual_branches(model) == branches_by_name(model)
    names = ["embedding", "attention.0", "mlp.0", "attention.1", "mlp.1"]
    found = make_policy(model).sites()
    assert [*found] == [*names, "value.0", "value.1", "thought"]
    assert {name: found[name] for name in names} == dict.fromkeys(names, Site(32))


def with_masked_weights(model: Any, gains: dict[str, torch.Tensor]) -> Any:
    """A copy of the model whose branch projections have the masks in their weights."""
    edited = copy.deepcopy(model)
    with torch.no_grad():
        sites: dict[str, Any] = dict(branches_by_name(edited))
        for site, module in sites.items():
            columns = type(module).__name__ == "Conv1D"  # [in, out]; a linear layer is [out, in]
            module.weight.mul_(gains[site][None] if columns else gains[site][:, None])
            if module.bias is not None:
                module.bias.mul_(gains[site])
    return edited


def test_a_mask_equals_zeroed_and_rescaled_weights(model: Any) -> None:
    """A shared mask over all phases is one draw of the weights (Gal and Ghahramani)."""
    policy = make_policy(model, SharedMask(rate=0.4, scope="all"))
    prompts, texts = make_prompts(1), some_texts(4)[3:]
    record = record_for(policy, prompts)
    edited = with_masked_weights(model, {s: m[0, 0] for s, m in record.tensors.items()})
    with torch.no_grad():
        masked, _ = scored(policy, prompts, texts, record)
        plain, _ = scored(make_policy(edited), prompts, texts, NoiseRecord())
        clean, _ = scored(make_policy(model), prompts, texts, NoiseRecord())
    assert gap(masked.log_probs, plain.log_probs) <= 1e-5
    assert gap(masked.thoughts, plain.thoughts) <= 1e-5
    assert gap(masked.log_probs, clean.log_probs) > 1e-2


def test_decoding_leaves_the_state_as_it_was(model: Any) -> None:
    check_state_reuse(make_policy(model), make_prompts(3))


def test_repeated_states_are_group_major(model: Any) -> None:
    policy = make_policy(model)
    with torch.no_grad():
        batch = collate_prompts(make_prompts(3), 0)
        state, _ = policy.latent_phase(batch, NoiseRecord(), 1)
    repeated = state.repeat(2)
    assert torch.equal(repeated.hidden, state.hidden[[0, 0, 1, 1, 2, 2]])
    assert torch.equal(repeated.mask, state.mask[[0, 0, 1, 1, 2, 2]])
    assert torch.equal(repeated.position, state.position[[0, 0, 1, 1, 2, 2]])
    assert repeated.cache.layers[1].keys.shape[0] == 6 and state.cache.layers[1].keys.shape[0] == 3


def test_the_law_is_a_distribution_without_the_forbidden(model: Any) -> None:
    policy = make_policy(model)
    hidden = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    for temperature in (1.0, 0.7, 2.0):
        law = policy.log_law(hidden, temperature).exp()
        assert gap(law.sum(dim=-1), torch.ones(5)) < 1e-5
        assert (law[:, list(FORBIDDEN)] == 0).all() and (law[:, list(ALLOWED)] > 0).all()
    logits = model.get_output_embeddings()(hidden)[:, list(ALLOWED)]
    expected = torch.log_softmax(logits / 0.7, dim=-1)
    assert gap(policy.log_law(hidden, 0.7)[:, list(ALLOWED)], expected) < 1e-5


def test_dispersion_is_the_relative_spread_of_states() -> None:
    states = torch.tensor([[1.0, 1.0], [3.0, 1.0], [2.0, 2.0], [2.0, 4.0]])
    # variances per feature: group 0 (2, 0), group 1 (0, 2): mean 1; mean square 40/8 = 5
    assert abs(dispersion(states, 2) - (1 / 5) ** 0.5) < 1e-6
    assert dispersion(states, 1) == 0.0


def test_too_long_rows_are_refused_at_the_exact_position() -> None:
    check_fits(10, 6, 15, 32, "item")
    with pytest.raises(InputError, match="item: 10 tokens"):
        check_fits(10, 6, 16, 32, "item")


def test_the_last_position_that_fits_runs() -> None:
    """A GPT-2 with as many positions as check_fits asks for runs to the end of its budget."""
    prompt = Prompt(1, (5, 6, 7), 8)
    policy = make_policy(twin("gpt2", positions=3 + LATENTS + 1 + 4))
    policy = replace(policy, forbidden=(*FORBIDDEN, LAYOUT.markers.eos))
    rollouts = rolled(policy, [prompt], budget=4)
    assert rollouts.answers.text.mask.sum() == 12 and rollouts.answers.truncated.all()
