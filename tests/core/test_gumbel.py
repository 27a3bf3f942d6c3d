"""Noise on the scores of a mixture: LEPO's Gumbel-softmax and Latent-GRPO's one-sided Gumbel,
against NumPy float64 from the same drawn numbers, and the law of these numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from checks import VOCABULARY, make_prompts, philox, rolled
from plain import (
    dense,
    fixed_lexicon,
    log_law,
    mixture_of,
    nucleus_of,
    only,
    policy_with,
    softmax,
    table_of,
    top,
)
from scipy import stats

from latentbench.carrier.mixture import Mixture
from latentbench.errors import InputError
from latentbench.keys import Key, Purpose
from latentbench.noise import Site
from latentbench.noise.gumbel import Gumbel
from latentbench.noise.one_sided_gumbel import OneSidedGumbel
from latentbench.records import NoiseRecord

WIDE = Mixture(k=30)
TEN = Mixture(k=10)
KEYS = [Key(0, Purpose.NOISE, 0, prompt, k) for prompt in range(20) for k in range(4)]
SITES = {"scores": Site(1000)}


def lepo_scores(law: np.ndarray, g: np.ndarray, noise: Gumbel) -> np.ndarray:
    """(filtered + g)/tau; the filter is temperature, then top-k, then top-p."""
    filtered = law / noise.temperature
    filtered = only(filtered, top(filtered, noise.top_k))
    if noise.top_p < 1:
        filtered = only(filtered, nucleus_of(filtered, noise.top_p))
    return (filtered + noise.scale * g) / noise.tau


def shifted(draws: np.ndarray, noise: OneSidedGumbel) -> np.ndarray:
    """xi = scale * (clip(G, -a, b) + a + delta), or without the shift."""
    clipped = np.minimum(np.maximum(draws, -noise.low), noise.high)
    return noise.scale * (clipped + (noise.low + noise.delta if noise.one_sided else 0))


def candidates(law: np.ndarray, noise: OneSidedGumbel) -> list[int]:
    return sorted({*nucleus_of(law, noise.top_p), *top(law, noise.at_least)})


def numbers(prompt: int, rollout: int, latents: int, seed: int = 0, step: int = 0) -> np.ndarray:
    """Gumbel numbers [step, token type] of a rollout, from its stream and the inverse CDF."""
    stream = philox(seed, int(Purpose.NOISE), step, prompt, rollout)
    return -np.log(-np.log1p(-stream.random((latents, VOCABULARY))))


LEPO = [
    Gumbel(),
    Gumbel(tau=0.3),
    Gumbel(temperature=1.5, top_k=12, top_p=0.7, tau=1.0, scale=0.5),
    Gumbel(temperature=0.5, top_k=30, top_p=0.9, tau=2.0, scale=2.0),
]


@pytest.mark.parametrize("noise", LEPO, ids=repr)
def test_lepo_thoughts_are_those_of_the_formula(exact_model: Any, noise: Gumbel) -> None:
    """z = softmax((l + g)/tau) over the filtered scores, e = z E, at every slot of every row."""
    policy = policy_with(exact_model, WIDE, noise)
    rollouts = rolled(policy, make_prompts(2))
    table = table_of(exact_model)
    for row in range(6):
        g = numbers(rollouts.prompts[row // 3].uid, row % 3, policy.latents)
        for step in range(policy.latents):
            law = log_law(rollouts.thoughts.sources[row, step], exact_model)
            scores = lepo_scores(law, g[step], noise)
            expected = softmax(scores)  # the whole filtered vocabulary, not the archive
            found = dense(rollouts.thoughts.choice, row, step, len(table))
            assert np.abs(found - expected).max() < 1e-5 / noise.tau
            vector = rollouts.thoughts.vectors[row, step].numpy()
            assert np.abs(vector - expected @ table).max() < 1e-5 / noise.tau
    assert (rollouts.thoughts.choice["weights"].sum(dim=-1) - 1).abs().max() < 1e-12


def test_the_filter_is_temperature_then_top_k_then_top_p() -> None:
    """On laws where every other order keeps other types."""
    told_apart = 0
    for seed in range(40):
        law = np.log(np.random.default_rng(seed).dirichlet(np.full(12, 0.7)))
        k, p, temperature = 5, 0.8, 1.7
        soft = law / temperature
        right = set(nucleus_of(only(soft, top(soft, k)), p))
        p_before_k = set(nucleus_of(soft, p)) & set(top(soft, k))
        p_before_t = set(nucleus_of(only(law, top(law, k)), p))
        p_first = set(nucleus_of(law, p)) & set(top(law, k))
        told_apart += right not in (p_before_k, p_before_t, p_first)
        noise = Gumbel(temperature=temperature, top_k=k, top_p=p, tau=1.0, scale=0.0)
        lexicon = fixed_lexicon(law[None])
        _, choice = Mixture(k=12)(torch.zeros(1, 3), lexicon, noise.effects(NoiseRecord(), 1))
        kept = choice["ids"][0][choice["weights"][0] > 0].tolist()
        assert set(kept) == right
        expected = mixture_of(only(soft, sorted(right)), 12)
        assert np.abs(dense(unsqueezed(choice), 0, 0, 12) - expected).max() < 1e-12
    assert told_apart >= 3


def unsqueezed(choice: Any) -> dict[str, torch.Tensor]:
    return {name: value[:, None] for name, value in choice.items()}


ONE_SIDED = [
    OneSidedGumbel(),
    OneSidedGumbel(scale=0.5, delta=0.1),
    OneSidedGumbel(one_sided=False),
    OneSidedGumbel(scale=2.0, low=0.5, high=1.0, top_p=0.3, at_least=3),
]


@pytest.mark.parametrize("noise", ONE_SIDED, ids=repr)
def test_latent_grpo_thoughts_are_those_of_the_formula(
    exact_model: Any, noise: OneSidedGumbel
) -> None:
    """s = log p + xi on the candidates, the best 10 of them, q = softmax(s), e = q E."""
    policy = policy_with(exact_model, TEN, noise)
    rollouts = rolled(policy, make_prompts(2))
    table, choice = table_of(exact_model), rollouts.thoughts.choice
    reordered = 0
    for row in range(6):
        g = numbers(rollouts.prompts[row // 3].uid, row % 3, policy.latents)
        for step in range(policy.latents):
            law = log_law(rollouts.thoughts.sources[row, step], exact_model)
            scores = only(law, candidates(law, noise)) + shifted(g[step], noise)
            expected = mixture_of(scores, 10)
            found = dense(choice, row, step, len(table))
            assert np.abs(found - expected).max() < 1e-6
            vector = rollouts.thoughts.vectors[row, step].numpy()
            assert np.abs(vector - expected @ table).max() < 1e-6
            ids, kept = choice["ids"][row, step].numpy(), choice["weights"][row, step].numpy() > 0
            recorded = choice["scores"][row, step].numpy()
            assert np.abs(recorded[kept] - scores[ids][kept]).max() < 1e-6
            assert np.isneginf(recorded[~kept]).all()
            margins = recorded[kept] - choice["log_probs"][row, step].numpy()[kept]
            assert np.abs(margins - shifted(g[step], noise)[ids][kept]).max() < 1e-6
            if noise.one_sided:
                assert margins.min() > -1e-12
            reordered += set(ids[kept].tolist()) != set(top(law, 10))
    assert reordered > 0, "the noise must matter to the selection"


def test_candidates_are_the_nucleus_and_at_least_so_many() -> None:
    """A flat law has a nucleus of more than 10 types, a sharp one of fewer."""
    rng = np.random.default_rng(0)
    flat, sharp = (np.log(rng.dirichlet(np.full(40, a))) for a in (50.0, 0.05))
    noise = OneSidedGumbel(at_least=10)
    draws = noise.draw(KEYS[:2], {"scores": Site(40)}, 1)
    for law, most in ((flat, 39), (sharp, 10)):
        inside = nucleus_of(law, 0.95)
        assert (len(inside) > 10) == (most == 39)
        lexicon = fixed_lexicon(np.stack([law, law]))
        _, choice = Mixture(k=40)(torch.zeros(2, 3), lexicon, noise.effects(draws, 1))
        for row in range(2):
            kept = choice["ids"][row][choice["weights"][row] > 0].tolist()
            assert sorted(kept) == candidates(law, noise)
            assert len(kept) == max(len(inside), 10)


# -- limits --------------------------------------------------------------------------------------


def same_thoughts(one: Any, other: Any) -> bool:
    names = ("ids", "weights", "log_probs")
    return torch.equal(one.vectors, other.vectors) and all(
        torch.equal(one.choice[name], other.choice[name]) for name in names
    )


def test_without_noise_all_arms_are_the_deterministic_carrier(model: Any) -> None:
    """Scale 0, tau 1, no filter: bit for bit, and the answers with them."""
    unfiltered = Gumbel(top_k=VOCABULARY, top_p=1.0, tau=1.0, scale=0.0)
    arms = [policy_with(model, TEN, noise) for noise in (None, unfiltered, OneSidedGumbel(scale=0))]
    runs = [rolled(policy, make_prompts(3)) for policy in arms]
    for run in runs[1:]:
        assert same_thoughts(run.thoughts, runs[0].thoughts)
        assert torch.equal(run.answers.log_probs, runs[0].answers.log_probs)
        assert torch.equal(run.answers.text.ids, runs[0].answers.text.ids)
        assert run.dispersion == 0.0


def test_a_cold_sample_is_the_embedding_of_the_noisy_argmax(model: Any) -> None:
    """tau -> 0: a draw from the filtered law by the Gumbel-max trick."""
    noise = Gumbel(tau=1e-6)
    policy = policy_with(model, WIDE, noise)
    rollouts = rolled(policy, make_prompts(2))
    cleans = 0
    for row in range(6):
        g = numbers(rollouts.prompts[row // 3].uid, row % 3, policy.latents)
        for step in range(policy.latents):
            law = log_law(rollouts.thoughts.sources[row, step], model)
            best = int(np.argmax(lepo_scores(law, g[step], replace(noise, tau=1.0))))
            weights = dense(rollouts.thoughts.choice, row, step, VOCABULARY)
            assert weights[best] > 1 - 1e-6
            table = torch.from_numpy(table_of(model)).float()
            assert torch.allclose(rollouts.thoughts.vectors[row, step], table[best], atol=1e-5)
            cleans += best == int(np.argmax(law))
    assert cleans < 18


def test_cold_samples_follow_the_filtered_law() -> None:
    """Gumbel-max over 8,000 draws: frequencies within 4.5 standard errors."""
    law = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05]))
    noise = Gumbel(top_k=4, top_p=0.9, tau=1e-3)
    keys = [Key(1, Purpose.NOISE, 0, 0, k) for k in range(8000)]
    record = noise.draw(keys, {"scores": Site(5)}, 1)
    lexicon = fixed_lexicon(np.tile(law, (8000, 1)))
    _, choice = Mixture(k=5)(torch.zeros(8000, 3), lexicon, noise.effects(record, 1))
    counts = np.bincount(choice["ids"][:, 0].numpy(), minlength=5) / 8000
    expected = softmax(
        only(law, [0, 1, 2, 3])
    )  # 0.95 before the filter's fifth; 0.85 before the 4th
    error = np.sqrt(expected * (1 - expected) / 8000)
    assert (np.abs(counts - expected) <= 4.5 * error + 1e-12).all()


def test_noise_acts_on_latent_slots_alone(gpt2: Any) -> None:
    sites = policy_with(gpt2, TEN).sites()
    for noise in (Gumbel(), OneSidedGumbel()):
        record = noise.draw(KEYS[:3], sites, 4)
        assert record.tensors["scores"].shape == (3, 4, VOCABULARY)
        assert noise.effects(record, 0) == {} and noise.effects(record, -1) == {}
        assert set(noise.effects(record, 1)) == {"scores"}


def test_no_numbers_are_drawn_without_noise(gpt2: Any) -> None:
    sites = policy_with(gpt2, TEN).sites()
    for noise in (Gumbel(scale=0), OneSidedGumbel(scale=0)):
        assert noise.draw(KEYS[:3], sites, 4) == NoiseRecord()


# -- the law of the numbers ----------------------------------------------------------------------


def test_lepo_draws_standard_gumbel_numbers() -> None:
    g = Gumbel().draw(KEYS, SITES, 5).tensors["scores"].numpy().ravel()
    assert len(np.unique(g)) > 0.9 * len(g)
    assert stats.kstest(g[::4], stats.gumbel_r.cdf).pvalue > 1e-3


def test_one_sided_numbers_have_the_published_law() -> None:
    """P(G < -1.5) = 1.1 % and P(G > 3) = 4.9 % are atoms; mean 2.03, deviation 1.14."""
    xi = OneSidedGumbel().draw(KEYS, SITES, 5).tensors["scores"].double().numpy().ravel()
    assert xi.min() == 0.0 and xi.max() == 4.5
    grid = stats.gumbel_r.ppf((np.arange(400_000) + 0.5) / 400_000).clip(-1.5, 3.0) + 1.5
    for found, exact, printed, tolerance in (
        ((xi == 0).mean(), 1 - stats.gumbel_r.sf(-1.5), 0.011, 0.001),
        ((xi == 4.5).mean(), stats.gumbel_r.sf(3.0), 0.049, 0.002),
        (xi.mean(), grid.mean(), 2.03, 0.01),
        (xi.std(), grid.std(), 1.14, 0.01),
        ((1 - np.exp(-xi)).mean(), (1 - np.exp(-grid)).mean(), 0.78, 0.01),
    ):
        assert abs(exact - printed) <= 0.006
        assert abs(found - exact) < tolerance


def test_two_sided_margins_are_negative_for_a_good_third() -> None:
    """P(G < 0) = 1/e = 36.8 %, and the average coefficient 1 - exp(-xi) is near 0."""
    two_sided = OneSidedGumbel(one_sided=False)
    xi = two_sided.draw(KEYS, SITES, 5).tensors["scores"].double().numpy().ravel()
    assert abs((xi < 0).mean() - np.exp(-1)) < 0.003
    one_sided = OneSidedGumbel().draw(KEYS, SITES, 5).tensors["scores"].double().numpy().ravel()
    assert np.abs(one_sided - 1.5 - xi).max() < 1e-6
    assert abs((1 - np.exp(-xi)).mean()) < 0.05


@pytest.mark.parametrize(
    ("noise", "named"),
    [
        (lambda: Gumbel(tau=0), "noise.tau=0"),
        (lambda: Gumbel(top_p=0), "noise.top_p=0"),
        (lambda: Gumbel(scale=-1), "noise.scale=-1"),
        (lambda: OneSidedGumbel(at_least=0), "noise.at_least=0"),
        (lambda: OneSidedGumbel(high=-1), "noise.high=-1"),
    ],
)
def test_knobs_out_of_range_are_refused(noise: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        noise()


def test_wide_filters_need_a_wide_vocabulary() -> None:
    with pytest.raises(InputError, match=r"noise\.top_k=30"):
        Gumbel().check_vocabulary(20)
    with pytest.raises(InputError, match=r"noise\.at_least=10"):
        OneSidedGumbel().check_vocabulary(9)
    Gumbel().check_vocabulary(30)
