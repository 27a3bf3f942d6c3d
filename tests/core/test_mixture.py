"""The carriers that choose or compute a thought: mixture, pause, projector."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checks import LAYOUT, VOCABULARY, gap, make_prompts, rolled, twin
from plain import (
    FEW,
    dense,
    fixed_lexicon,
    log_law,
    mixture_of,
    nucleus_of,
    only,
    policy_with,
    table_of,
)
from scipy.special import erf

from latentbench.carrier.mixture import Mixture
from latentbench.carrier.pause import Pause
from latentbench.carrier.projector import Projector
from latentbench.config.sections import ModelConfig
from latentbench.errors import InputError
from latentbench.filters import nucleus
from latentbench.keys import Key, Purpose
from latentbench.model.backbone import create, load, save
from latentbench.model.weights import CARRIER
from latentbench.noise.shared_mask import SharedMask
from latentbench.records import NoiseRecord, collate_prompts

NOTHING = NoiseRecord()
MIXTURES = [
    Mixture(k=5),
    Mixture(k=10, temperature=0.4),
    Mixture(k=40, top_p=0.6),
    Mixture(k=4, temperature=2.0, top_p=0.3),
    Mixture(k=90),
]


def thoughts_of(policy: Any, count: int = 3) -> Any:
    batch = collate_prompts(make_prompts(count), LAYOUT.markers.pad)
    with torch.no_grad():
        return policy.latent_phase(batch, NOTHING, 1)[1]


@pytest.mark.parametrize("carrier", MIXTURES, ids=repr)
def test_a_thought_is_the_mixture_of_the_formula(exact_model: Any, carrier: Mixture) -> None:
    """e = sum_i q_i E_i, q the softmax over the k best types of the nucleus, in NumPy float64."""
    policy = policy_with(exact_model, carrier)
    thoughts = thoughts_of(policy)
    size = len(table_of(exact_model))
    for row in range(3):
        for step in range(policy.latents):
            law = log_law(thoughts.sources[row, step], exact_model)
            kept = nucleus_of(law, carrier.top_p)
            expected = mixture_of(only(law, kept), carrier.k, carrier.temperature)
            found = dense(thoughts.choice, row, step, size)
            assert np.abs(found - expected).max() < 1e-12
            assert (found > 0).sum() == min(carrier.k, len(kept), size - len(FEW))
            assert (found[list(FEW)] == 0).all()
            vector = thoughts.vectors[row, step].numpy()
            assert np.abs(vector - expected @ table_of(exact_model)).max() < 1e-12
            clean = law[thoughts.choice["ids"][row, step].numpy()]
            recorded = thoughts.choice["log_probs"][row, step].numpy()
            finite = np.isfinite(clean)
            assert np.abs(recorded[finite] - clean[finite]).max() < 1e-12
            assert np.isneginf(recorded[~finite]).all()


def test_forbidden_types_would_have_had_weight(exact_model: Any) -> None:
    """The same policy without its ban mixes them: the ban is what keeps them out."""
    free = policy_with(exact_model, Mixture(k=VOCABULARY), forbidden=())
    weights = dense(thoughts_of(free).choice, 0, 0, len(table_of(exact_model)))
    assert weights[list(FEW)].min() > 0


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.3, 1), (0.5 - 1e-9, 1), (0.5 + 1e-9, 2), (0.6, 2), (0.75 + 1e-9, 3), (0.9, 4), (1.0, 4)],
)
def test_the_token_that_crosses_the_threshold_belongs_to_the_nucleus(
    top_p: float, kept: int
) -> None:
    """p = 1/2, 1/4, 1/8, 1/8: a type stays while the mass before it is below top_p."""
    probabilities = np.array([[0.125, 0.5, 0.125, 0.25]])
    lexicon = fixed_lexicon(np.log(probabilities))
    _, choice = Mixture(k=4, top_p=top_p)(torch.zeros(1, 3), lexicon, {})
    weights = choice["weights"][0].numpy()
    assert choice["ids"][0, :2].tolist() == [1, 3]
    assert (weights > 0).sum() == kept
    best = np.sort(probabilities[0])[::-1][:kept]
    assert np.abs(weights[:kept] - best / best.sum()).max() < 1e-12
    assert (weights[kept:] == 0).all()


@pytest.mark.parametrize("carrier", MIXTURES, ids=repr)
def test_the_archive_is_lossless(model: Any, carrier: Mixture) -> None:
    """Recorded weights sum to 1, and with the recorded ids rebuild the executed vector exactly."""
    thoughts = thoughts_of(policy_with(model, carrier))
    weights, ids = thoughts.choice["weights"], thoughts.choice["ids"]
    assert (weights.double().sum(dim=-1) - 1).abs().max() < 1e-6
    table = model.get_input_embeddings().weight.detach()
    for step in range(weights.shape[1]):
        rebuilt = torch.einsum("rk,rkf->rf", weights[:, step], table[ids[:, step]])
        assert torch.equal(rebuilt, thoughts.vectors[:, step])


def test_a_mixture_of_one_is_the_embedding_of_the_argmax(model: Any) -> None:
    thoughts = thoughts_of(policy_with(model, Mixture(k=1, temperature=0.3)))
    for row in range(3):
        for step in range(thoughts.vectors.shape[1]):
            best = int(np.argmax(log_law(thoughts.sources[row, step], model)))
            assert thoughts.choice["ids"][row, step].tolist() == [best]
            assert torch.equal(
                thoughts.vectors[row, step], model.get_input_embeddings().weight[best]
            )


@pytest.mark.parametrize("carrier", MIXTURES[1:4], ids=repr)
def test_the_gradient_of_a_thought_is_that_of_finite_differences(
    exact_model: Any, carrier: Mixture
) -> None:
    policy = policy_with(exact_model, carrier)
    rng = np.random.default_rng(1)
    hidden = thoughts_of(policy).sources[:2, 0].clone().requires_grad_()
    weights = torch.from_numpy(rng.normal(size=hidden.shape))

    def value(at: torch.Tensor) -> torch.Tensor:
        return (carrier(at, policy._lexicon, {})[0] * weights).sum()

    (slope,) = torch.autograd.grad(value(hidden), hidden)
    assert slope.abs().max() > 1e-3
    for row, feature in [(0, 0), (0, 17), (1, 5), (1, 31)]:
        nudge = torch.zeros_like(hidden)
        nudge[row, feature] = 1e-5
        with torch.no_grad():
            measured = (value(hidden + nudge) - value(hidden - nudge)) / 2e-5
        assert abs(float(measured - slope[row, feature])) < 1e-8


def test_the_answer_is_differentiated_through_all_mixtures(gpt2: Any) -> None:
    """BPTT: a nudge of one weight moves the replayed score as its gradient says."""
    model = twin("gpt2", dtype=torch.float64)
    policy = policy_with(model, Mixture(k=6, temperature=0.7))
    rollouts = rolled(policy, make_prompts(2), 2)
    batch = collate_prompts(rollouts.prompts, LAYOUT.markers.pad)

    def value() -> torch.Tensor:
        return policy.replay(batch, NOTHING, rollouts.answers.text, 2).log_probs.sum()

    weight = model.base_model.h[0].mlp.c_fc.weight
    (slope,) = torch.autograd.grad(value(), weight)
    for place in [(0, 0), (9, 33), (31, 100)]:
        with torch.no_grad():
            measured = []
            for nudge in (1e-5, -1e-5):
                weight[place] += nudge
                measured.append(float(value()))
                weight[place] -= nudge
        assert abs((measured[0] - measured[1]) / 2e-5 - float(slope[place])) < 1e-6


# -- pause ---------------------------------------------------------------------------------------


def test_pause_fills_every_slot_with_the_row_of_the_latent_token(model: Any) -> None:
    policy = policy_with(model, Pause())
    row = model.get_input_embeddings().weight[LAYOUT.markers.latent].detach()
    thoughts = thoughts_of(policy)
    assert torch.equal(thoughts.vectors, row.expand_as(thoughts.vectors))
    assert thoughts.choice == {}
    noisy = rolled(policy.under(SharedMask(rate=0.3)), make_prompts(2))
    assert torch.equal(noisy.thoughts.vectors, row.expand_as(noisy.thoughts.vectors))


def test_pause_learns_its_row() -> None:
    model = twin("llama", dtype=torch.float64)  # its head is not tied to the embeddings
    policy = policy_with(model, Pause())
    rollouts = rolled(policy, make_prompts(2), 2)
    batch = collate_prompts(rollouts.prompts, LAYOUT.markers.pad)
    score = policy.replay(batch, NOTHING, rollouts.answers.text, 2).log_probs.sum()
    (slope,) = torch.autograd.grad(score, model.get_input_embeddings().weight)
    assert slope[LAYOUT.markers.latent].abs().max() > 1e-2


# -- projector -----------------------------------------------------------------------------------


def perceptron(hidden: np.ndarray, weights: dict[str, torch.Tensor]) -> np.ndarray:
    """Linear, exact GELU, linear, layer norm, written out."""
    w = {name: value.double().numpy() for name, value in weights.items()}
    inner = hidden @ w["down.weight"].T + w["down.bias"]
    inner = inner * (1 + erf(inner / math.sqrt(2))) / 2
    outer = inner @ w["up.weight"].T + w["up.bias"]
    centred = outer - outer.mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return normed * w["norm.weight"] + w["norm.bias"]


@pytest.mark.parametrize("width", [None, 7])
def test_the_projector_is_a_two_layer_perceptron_with_a_norm(exact_model: Any, width: Any) -> None:
    carrier = Projector(width=width)
    carrier.build(exact_model)
    exact_model.latent_carrier.double()
    with torch.no_grad():
        for parameter in exact_model.latent_carrier.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    weights = exact_model.latent_carrier.state_dict()
    assert weights["down.weight"].shape == (width or 32, 32)
    thoughts = thoughts_of(policy_with(exact_model, carrier))
    expected = perceptron(thoughts.sources.numpy(), weights)
    assert np.abs(thoughts.vectors.numpy() - expected).max() < 1e-12
    assert thoughts.choice == {}


SMALL = ModelConfig(
    "small",
    architecture={"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32},
)


def test_a_projector_is_saved_and_loaded_with_its_model(tmp_path: Path) -> None:
    made = create(SMALL, Key(0, Purpose.WEIGHTS), Projector())
    again = create(SMALL, Key(0, Purpose.WEIGHTS), Projector())
    other = create(SMALL, Key(1, Purpose.WEIGHTS), Projector())
    states = [b.model.latent_carrier.state_dict() for b in (made, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["up.weight"], states[2]["up.weight"])
    with torch.no_grad():
        for parameter in made.model.latent_carrier.parameters():
            parameter.mul_(1.7)
    save(made, tmp_path, {"latents": 3}, "card")
    before = torch.get_rng_state()
    loaded = load(str(tmp_path), None, SMALL, True, Projector())
    assert torch.equal(torch.get_rng_state(), before)
    first, second = made.model.state_dict(), loaded.model.state_dict()
    assert set(first) == set(second) and sum("latent_carrier" in n for n in first) == 6
    assert all(torch.equal(first[name], second[name]) for name in first)
    thoughts = [thoughts_of(policy_with(b.model, Projector())).vectors for b in (made, loaded)]
    assert torch.equal(*thoughts)
    plain = load(str(tmp_path), None, SMALL, True, Pause())  # the model itself is whole without it
    assert not hasattr(plain.model, "latent_carrier")


def test_a_model_without_a_fitting_projector_is_refused(tmp_path: Path) -> None:
    made = create(SMALL, Key(0, Purpose.WEIGHTS), Projector())
    save(made, tmp_path / "wide", {"latents": 3}, "card")
    with pytest.raises(InputError, match=CARRIER):
        load(str(tmp_path / "wide"), None, SMALL, True, Projector(width=5))
    save(create(SMALL, Key(0, Purpose.WEIGHTS), Pause()), tmp_path / "none", {"latents": 3}, "card")
    with pytest.raises(InputError, match=CARRIER):
        load(str(tmp_path / "none"), None, SMALL, True, Projector())


def test_the_gradient_reaches_the_projector() -> None:
    model = twin("gpt2", dtype=torch.float64)
    carrier = Projector()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        carrier.build(model)
    model.latent_carrier.double()
    policy = policy_with(model, carrier)
    rollouts = rolled(policy, make_prompts(2), 2)
    batch = collate_prompts(rollouts.prompts, LAYOUT.markers.pad)
    replay = policy.replay(batch, NOTHING, rollouts.answers.text, 2)
    assert gap(replay.log_probs, rollouts.answers.log_probs) < 1e-10
    slopes = torch.autograd.grad(replay.log_probs.sum(), list(model.latent_carrier.parameters()))
    assert all(slope.abs().max() > 1e-3 for slope in slopes)


def test_a_nucleus_of_one_keeps_the_whole_tail() -> None:
    """In float32 the sums of a long flat head round past 1 before the tail ends."""
    scores = torch.cat([torch.zeros(50_000), torch.full((200,), -20.0)])[None]
    before = scores.softmax(-1).cumsum(-1)
    assert (before[:, :-200] >= 1).any(), "rounding does reach 1"
    assert nucleus(scores, 1.0).all()
    assert not nucleus(scores, 0.5).all()
