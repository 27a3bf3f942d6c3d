"""What a latent slot is scored by: LEPO's soft cross-entropy and Latent-GRPO's Gumbel surrogate,
alone and in a whole update."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from checks import (
    LAYOUT,
    gap,
    gradient_gap,
    gradients,
    make_prompts,
    parity,
    rolled,
    twin,
)
from plain import naive_stored, policy_with

from latentbench.advantage.mean import Mean
from latentbench.advantage.mean_std import MeanStd
from latentbench.carrier.mixture import Mixture
from latentbench.config.sections import AnswerConfig, RlConfig
from latentbench.errors import InputError
from latentbench.latent_loss.gumbel_surrogate import GumbelSurrogate
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.latent_loss.soft_ce import SoftCe
from latentbench.model.policy import Policy
from latentbench.noise.gumbel import Gumbel
from latentbench.noise.one_sided_gumbel import OneSidedGumbel
from latentbench.noise.shared_mask import SharedMask
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import Groups, Rollouts, collate_prompts
from latentbench.training.rl import RlModule
from latentbench.training.update import Objective, advantages_of
from latentbench.transform.first_token import FirstToken
from latentbench.transform.invalid_mask import InvalidMask

RULES = ("off", "official", "signed")
F64 = torch.float64


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor([[list(numbers)]], dtype=F64)  # [row, step, k]


# -- soft cross-entropy --------------------------------------------------------------------------


def soft_ce_slope(logits: torch.Tensor, ids: Any, weights: Any, advantage: float) -> torch.Tensor:
    """The descent direction of A * CE(z, p) at the logits."""
    leaf = logits.clone().requires_grad_()
    current = torch.log_softmax(leaf, dim=-1).gather(-1, ids)
    choice = {"ids": ids, "weights": weights}
    scored = SoftCe().log_probs(current, choice, torch.full(ids.shape[:2], advantage))
    (slope,) = torch.autograd.grad(-advantage * scored.sum(), leaf)
    return -slope


@pytest.mark.parametrize("advantage", [1.0, -0.7, 0.0])
def test_the_descent_direction_of_soft_ce_is_a_times_z_minus_p(advantage: float) -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(3, 2, 20)))
    ids = torch.from_numpy(np.stack([rng.permutation(20)[:6] for _ in range(6)]).reshape(3, 2, 6))
    weights = torch.from_numpy(rng.dirichlet(np.ones(6), size=(3, 2)))
    dense = np.zeros((3, 2, 20))
    np.put_along_axis(dense, ids.numpy(), weights.numpy(), axis=-1)
    shifted = np.exp(logits.numpy())
    law = shifted / shifted.sum(axis=-1, keepdims=True)
    found = soft_ce_slope(logits, ids, weights, advantage).numpy()
    assert np.abs(found - advantage * (dense - law)).max() < 1e-12
    score = SoftCe().log_probs(
        torch.log_softmax(logits, -1).gather(-1, ids), {"weights": weights}, weights[..., 0]
    )
    assert np.abs(score.numpy() - (dense * np.log(law)).sum(axis=-1)).max() < 1e-12


def test_soft_ce_of_a_one_hot_label_is_reinforce() -> None:
    logits = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 3, 12)))
    token = torch.tensor([[4, 0, 11], [2, 2, 7]])
    ids = torch.stack([token, (token + 1) % 12], dim=-1)
    weights = torch.tensor([1.0, 0.0], dtype=F64).expand(2, 3, 2)
    found = soft_ce_slope(logits, ids, weights, 1.3)
    leaf = logits.clone().requires_grad_()
    score = 1.3 * torch.log_softmax(leaf, dim=-1).gather(-1, token[..., None]).sum()
    assert torch.allclose(found, torch.autograd.grad(score, leaf)[0], atol=1e-14, rtol=0)


# -- the Gumbel surrogate ------------------------------------------------------------------------


def surrogate(margins: Sequence[float], advantage: float, ste: str) -> tuple[float, list[float]]:
    """Value and derivative with respect to each log p of one slot with the given margins."""
    current = torch.linspace(-3.0, -1.0, len(margins), dtype=F64)[None, None].requires_grad_()
    scores = current.detach() + values(*margins)
    advantages = torch.full((1, 1), advantage, dtype=F64)
    value = GumbelSurrogate(ste).log_probs(current, {"scores": scores}, advantages)
    (slope,) = torch.autograd.grad(value.sum(), current)
    return float(value.detach()), slope.flatten().tolist()


def density(margins: Sequence[float]) -> float:
    return float(np.mean([-d - np.exp(-d) for d in margins]))


@pytest.mark.parametrize("ste", RULES)
@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
def test_the_value_is_the_mean_standard_gumbel_log_density(ste: str, advantage: float) -> None:
    """No rule changes the value."""
    from scipy.stats import gumbel_r

    for margins in ([0.0], [1.2, 0.3, 4.5], [-0.5, -2.0, 0.7], [-3.0, -0.1]):
        value, _ = surrogate(margins, advantage, ste)
        assert abs(value - density(margins)) < 1e-12
        assert abs(value - gumbel_r.logpdf(margins).mean()) < 1e-12


@pytest.mark.parametrize("ste", RULES)
def test_the_derivative_before_crossing_is_that_of_the_density(ste: str) -> None:
    """(1 - e^-d)/k, at least 0: all rules agree where d >= 0, and for A > 0 everywhere."""
    for advantage, margins in (
        (-1.0, [0.0, 0.4, 4.5]),
        (0.0, [2.0]),
        (1.0, [0.0, 0.4, 4.5]),
        (1.0, [-0.5, -2.0, 3.0, 0.1]),
    ):
        _, slope = surrogate(margins, advantage, ste)
        expected = [(1 - np.exp(-d)) / len(margins) for d in margins]
        assert np.abs(np.array(slope) - expected).max() < 1e-12


@pytest.mark.parametrize(
    ("margin", "off", "official"), [(-0.5, -0.649, -0.393), (-2.0, -6.39, -0.865)]
)
@pytest.mark.parametrize("advantage", [-1.0, 0.0])
def test_worked_derivatives_after_crossing(
    margin: float, off: float, official: float, advantage: float
) -> None:
    """The released rule bounds the derivative and leaves its sign; the signed one turns it."""
    for k in (1, 4):
        margins = [margin] + [1.0] * (k - 1)
        for ste, printed, exact in (
            ("off", off, 1 - np.exp(-margin)),
            ("official", official, np.exp(margin) - 1),
            ("signed", -official, 1 - np.exp(-abs(margin))),
        ):
            _, slope = surrogate(margins, advantage, ste)
            assert abs(slope[0] * k - exact) < 1e-12
            assert abs(slope[0] * k - printed) < 5e-3
            assert all(abs(s * k - (1 - np.exp(-1.0))) < 1e-12 for s in slope[1:])


def test_the_rule_looks_at_each_slots_own_advantage() -> None:
    current = torch.full((2, 2, 1), -1.0, dtype=F64, requires_grad=True)
    choice = {"scores": torch.full((2, 2, 1), -1.5, dtype=F64)}
    advantages = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64)
    score = GumbelSurrogate("official").log_probs(current, choice, advantages)
    (slope,) = torch.autograd.grad(score.sum(), current)
    plain, bounded = 1 - np.exp(0.5), np.exp(-0.5) - 1
    expected = [[plain, bounded], [bounded, plain]]
    assert np.abs(slope[..., 0].numpy() - expected).max() < 1e-12


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(InputError, match=r"latent_loss\.ste=on"):
        GumbelSurrogate("on")


@pytest.mark.parametrize("loss", [SoftCe(), *map(GumbelSurrogate, RULES)], ids=repr)
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_padding_where_candidates_ran_out_changes_nothing(loss: Any, advantage: float) -> None:
    """-inf scores, weights 0, and even -inf log-probabilities: no NaN in value or gradient, and the
    mean goes over the k that there are."""
    logits = torch.from_numpy(np.random.default_rng(3).normal(size=(1, 1, 6))).requires_grad_()
    banned = torch.zeros(6, dtype=torch.bool)
    banned[5] = True
    law = torch.log_softmax(logits.masked_fill(banned, float("-inf")), dim=-1)
    real, padded = torch.tensor([[[1, 4, 0]]]), torch.tensor([[[1, 4, 0, 2, 5]]])
    minus = float("-inf")
    scores = values(-1.0, -2.5, -3.0)
    choices = [
        (real, {"scores": scores, "weights": values(0.5, 0.3, 0.2)}),
        (
            padded,
            {
                "scores": torch.cat([scores, values(minus, minus)], -1),
                "weights": values(0.5, 0.3, 0.2, 0.0, 0.0),
            },
        ),
    ]
    found = []
    for ids, choice in choices:
        even = torch.full((1, 1), advantage, dtype=F64)
        value = loss.log_probs(law.gather(-1, ids), choice, even)
        (slope,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
        assert value.isfinite().all() and slope.isfinite().all()
        found.append((value.detach(), slope))
    assert gap(found[0][0], found[1][0]) < 1e-14 and gap(found[0][1], found[1][1]) < 1e-14


# -- stored thoughts in a policy -----------------------------------------------------------------

LEPO = ("lepo", Mixture(k=30), Gumbel(), SoftCe())
LATENT_GRPO = ("latent_grpo", Mixture(k=10), OneSidedGumbel(), GumbelSurrogate())
FEWER = ("few_candidates", Mixture(k=10), OneSidedGumbel(top_p=0.2, at_least=2), GumbelSurrogate())
METHODS = pytest.mark.parametrize("method", [LEPO, LATENT_GRPO, FEWER], ids=lambda m: m[0])


def stored_replay(policy: Policy, rollouts: Rollouts) -> Any:
    batch = collate_prompts(rollouts.prompts, LAYOUT.markers.pad)
    return policy.replay(
        batch,
        rollouts.noise,
        rollouts.answers.text,
        rollouts.group_size,
        1.0,
        rollouts.thoughts,
    )


@METHODS
def test_stored_choices_score_as_when_they_were_sampled(model: Any, method: Any) -> None:
    """Ratio 1 at the old parameters, from (ids, scores) and the stored vectors."""
    _, carrier, noise, loss = method
    policy = policy_with(model, carrier, noise)
    rollouts = rolled(policy, make_prompts(3))
    replay = stored_replay(policy, rollouts)
    choice = rollouts.thoughts.choice
    even = torch.zeros(9, policy.latents)
    now = loss.log_probs(replay.choice_log_probs, choice, even)
    then = loss.log_probs(choice["log_probs"], choice, even)
    assert now.isfinite().all() and gap(now, then) < 1e-5
    assert gap(replay.log_probs, rollouts.answers.log_probs) < 1e-5
    assert torch.equal(replay.thoughts, rollouts.thoughts.vectors)
    chosen = choice["scores"] > float("-inf")
    if method is FEWER:
        assert not chosen.all()
    if isinstance(loss, GumbelSurrogate):
        margins = (choice["scores"] - replay.choice_log_probs)[chosen]
        assert margins.min() > -1e-5
    assert not rollouts.thoughts.vectors.requires_grad


def rows_of(rollouts: Rollouts) -> list[tuple[Any, torch.Tensor, list[int]]]:
    """Prompt, stored vectors and text of each row."""
    lengths = rollouts.answers.text.mask.sum(dim=1).tolist()
    return [
        (
            rollouts.prompts[row // rollouts.group_size],
            rollouts.thoughts.vectors[row],
            rollouts.answers.text.ids[row, :length].tolist(),
        )
        for row, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("slot", [0, 1, 2, "text"])
def test_no_gradient_runs_from_one_position_into_an_earlier_latent(family: str, slot: Any) -> None:
    """The gradient of a slot's score, or of the text's, is that of the slot computed alone with the
    thoughts before it as constants."""
    policy = policy_with(twin(family, dtype=F64), Mixture(k=6), OneSidedGumbel())
    rollouts = rolled(policy, make_prompts(2), 2)
    replay = stored_replay(policy, rollouts)
    ids = rollouts.thoughts.choice["ids"]
    weights = torch.linspace(-1.0, 2.0, ids[:, 0].numel(), dtype=F64).reshape(ids[:, 0].shape)
    truth = torch.zeros((), dtype=F64)
    for row, (prompt, vectors, text) in enumerate(rows_of(rollouts)):
        laws, scores = naive_stored(policy, prompt, vectors, text)
        if slot == "text":
            truth = truth + scores.sum() * (row + 1)
        else:
            truth = truth + (laws[slot][ids[row, slot]] * weights[row]).sum()
    if slot == "text":
        mine = (replay.log_probs.sum(dim=1) * torch.arange(1, 5)).sum()
    else:
        mine = (replay.choice_log_probs[:, slot] * weights).sum()
    assert gap(mine, truth) < 1e-9
    found, expected = gradients(policy.model, mine), gradients(policy.model, truth)
    assert gradient_gap(found, expected) < 1e-9
    through = policy.replay(
        collate_prompts(rollouts.prompts, LAYOUT.markers.pad),
        rollouts.noise,
        rollouts.answers.text,
        2,
    )
    if slot == "text":  # BPTT has another gradient, so the comparison above can tell
        chain = gradients(policy.model, (through.log_probs.sum(dim=1) * torch.arange(1, 5)).sum())
        assert gradient_gap(chain, expected) > 1e-3


# -- a whole update ------------------------------------------------------------------------------


@dataclass
class Fixed:
    """An RL module without a trainer, and what one call of it does."""

    module: Any
    rollouts: Rollouts

    def gradient(self, old: list[torch.Tensor]) -> list[torch.Tensor]:
        self.module.model.zero_grad(set_to_none=True)
        advantages = advantages_of(self.rollouts, self.module.objective)
        groups = range(len(self.rollouts.prompts))
        self.module.inner_update(self.rollouts, advantages, groups, old)
        return [
            torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for p in self.module.model.parameters()
        ]


class Still:
    """An optimizer that never moves."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        pass

    def step(self) -> None:
        pass


def update_of(
    policy: Policy,
    loss: Any,
    advantage: Any,
    transforms: tuple[Any, ...] = (),
    aggregate: str = "token_mean",
    reference: Policy | None = None,
    rollouts: Rollouts | None = None,
    **changes: Any,
) -> Fixed:
    objective = Objective(parity, advantage, transforms, Clipped(aggregate=aggregate), loss)
    config = RlConfig(**{"updates": 1, "prompts": 4, "group_size": 4, "lr": 1e-3, **changes})
    config.grad_clip = None
    answer = AnswerConfig(1.0, 5)
    module: Any = RlModule(policy, reference, LAYOUT, objective, config, answer, [], 0)
    module.manual_backward = lambda value: value.backward()
    module.optimizers = Still
    module.full_precision = lambda: True
    rollouts = rollouts or rolled(policy, make_prompts(4, seed=5), 4, budget=5, seed=2)
    assert rollouts.mixed().any()
    return Fixed(module, rollouts)


def standardised(rewards: np.ndarray) -> np.ndarray:
    out = np.zeros_like(rewards)
    for group, row in enumerate(rewards):
        if row.max() > row.min():
            out[group] = (row - row.mean()) / (row.std(ddof=1) + 1e-4)
    return out


def reference_advantages(fixed: Fixed, sampled: list[float], method: str) -> np.ndarray:
    """Advantages [row, position] from the rules of the methods, group by group."""
    rollouts = fixed.rollouts
    rewards = rollouts.rewards.double().numpy()
    width = fixed.module.policy.latents + rollouts.answers.text.ids.shape[1]
    table = np.repeat(standardised(rewards)[..., None], width, axis=2)
    if method == "latent_grpo":
        cut = rollouts.answers.truncated.reshape(rewards.shape).numpy()
        table[cut] = 0.0
        scores = np.array(sampled).reshape(rewards.shape)
        for group in range(len(table)):
            positive = [k for k in range(table.shape[1]) if table[group, k, 0] > 0]
            if positive:
                winner = max(positive, key=lambda k: scores[group, k])
                for k in range(table.shape[1]):
                    table[group, k, 0] *= k == winner
    return table.reshape(-1, width)


def slot_score(method: str, law: torch.Tensor, choice: Any, row: int, step: int) -> torch.Tensor:
    """sum_v z_v log p_v, or the mean Gumbel log-density of the margins, from the formulas."""
    ids = choice["ids"][row, step]
    if method == "lepo":
        weights = choice["weights"][row, step]
        return (weights[weights > 0] * law[ids[weights > 0]]).sum()
    kept = choice["scores"][row, step] > float("-inf")
    margins = choice["scores"][row, step][kept] - law[ids[kept]]
    return (-margins - (-margins).exp()).mean()


def naive_positions(policy: Policy, rollouts: Rollouts, method: str) -> list[torch.Tensor]:
    """The scores of the slots and then of the tokens of each row, each row alone."""
    scored = []
    for row, (prompt, vectors, text) in enumerate(rows_of(rollouts)):
        fixed = method == "lepo"  # the official trainer stores the vectors of all positions
        laws, tokens = naive_stored(policy, prompt, vectors, text, fixed_inputs=fixed)
        slots = [
            slot_score(method, laws[step], rollouts.thoughts.choice, row, step)
            for step in range(policy.latents)
        ]
        scored.append(torch.cat([torch.stack(slots), tokens]))
    return scored


def graded(rollouts: Rollouts) -> Rollouts:
    """The same rollouts with rewards and cut answers that reach every case of the rules."""
    rewards = torch.tensor([[1.0, 0, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]])
    cut = torch.zeros(16, dtype=torch.bool)
    cut[[2, 6, 9, 12]] = True
    return replace(rollouts, rewards=rewards, answers=replace(rollouts.answers, truncated=cut))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("method", [LEPO, LATENT_GRPO], ids=lambda m: m[0])
def test_the_first_gradient_of_an_update_is_that_of_the_formulas(name: str, method: Any) -> None:
    """-(1/N) sum over slots and tokens of A grad log P, with N the scored positions."""
    title, carrier, noise, loss = method
    policy = policy_with(twin(name, dtype=F64), carrier, noise)
    transforms = (InvalidMask(), FirstToken()) if title == "latent_grpo" else ()
    rollouts = graded(rolled(policy, make_prompts(4, seed=5), 4, budget=5, seed=2))
    fixed = update_of(policy, loss, MeanStd(), transforms, rollouts=rollouts, micro_batch=8)
    scored = naive_positions(policy, fixed.rollouts, title)
    sampled = [float(row.detach().mean()) for row in scored]
    advantages = reference_advantages(fixed, sampled, title)
    assert (advantages[:, 0] != advantages[:, 1]).any() == (title == "latent_grpo")
    own = advantages_of(fixed.rollouts, fixed.module.objective).flatten(0, 1).double()
    assert gap(own, torch.from_numpy(advantages)) < 1e-6
    count = sum(len(row) for row in scored)
    total = torch.zeros((), dtype=F64)
    for row, score in enumerate(scored):
        total = total - (torch.from_numpy(advantages[row, : len(score)]) * score).sum() / count
    assert gradient_gap(fixed.gradient([]), gradients(policy.model, total)) < 1e-6


@pytest.mark.parametrize("method", [LEPO, LATENT_GRPO], ids=lambda m: m[0])
def test_transforms_see_the_mean_score_over_slots_and_tokens(method: Any) -> None:
    """Length-normalised: answers of different lengths, from one token to all."""
    title, carrier, noise, loss = method
    policy = policy_with(twin("gpt2", dtype=F64), carrier, noise)
    rollouts = rolled(policy, make_prompts(4, seed=5), 4, budget=5, seed=2)
    lengths = torch.arange(16) % 5 + 1
    answers = rollouts.answers
    mask = (torch.arange(5)[None] < lengths[:, None]).long() * answers.text.mask
    text = replace(answers.text, mask=mask)
    answers = replace(answers, text=text, log_probs=answers.log_probs * mask)
    seen: list[Groups] = []

    def spy(advantages: torch.Tensor, groups: Groups, estimate: Any) -> torch.Tensor:
        seen.append(groups)
        return advantages

    fixed = update_of(policy, loss, Mean(), (spy,), rollouts=replace(rollouts, answers=answers))
    advantages_of(fixed.rollouts, fixed.module.objective)
    expected = [row.detach().mean() for row in naive_positions(policy, fixed.rollouts, title)]
    assert gap(seen[0].log_probs.flatten(), torch.stack(expected)) < 1e-9


def clipped(ratio: torch.Tensor, advantage: float) -> torch.Tensor:
    bounded = ratio.clamp(0.8, 1.2)
    return torch.minimum(ratio * advantage, bounded * advantage)


@pytest.mark.parametrize("ste", RULES)
def test_a_later_inner_update_has_ratios_on_slots_and_the_rule_acts(ste: str) -> None:
    """After the weights have moved: exp(log P - log P_old) per slot, clipped; where a margin was
    crossed and A <= 0 the slope is that of the rule, written here as a weight on each log p."""
    _, carrier, noise, _ = LATENT_GRPO
    noise = OneSidedGumbel(scale=0.1)  # small margins are crossed soon
    policy = policy_with(twin("gpt2", dtype=F64), carrier, noise)
    fixed = update_of(policy, GumbelSurrogate(ste), Mean())
    old: list[torch.Tensor] = []
    fixed.gradient(old)
    before = [row.detach() for row in naive_positions(policy, fixed.rollouts, "latent_grpo")]
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in policy.model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator, dtype=F64))
    found = fixed.gradient(old)
    centred = (fixed.rollouts.rewards - fixed.rollouts.rewards.mean(1, keepdim=True)).flatten()
    count, crossings = sum(len(row) for row in before), 0
    total = torch.zeros((), dtype=F64)
    choice = fixed.rollouts.thoughts.choice
    for row, (prompt, vectors, text) in enumerate(rows_of(fixed.rollouts)):
        laws, tokens = naive_stored(policy, prompt, vectors, text)
        advantage = float(centred[row])
        for step in range(policy.latents):
            kept = choice["scores"][row, step] > float("-inf")
            current = laws[step][choice["ids"][row, step][kept]]
            margins = (choice["scores"][row, step][kept] - current).detach()
            value = float((-margins - (-margins).exp()).mean())
            weight = 1 - (-margins).exp()
            crossed = (margins < 0) & (advantage <= 0)
            crossings += int(crossed.sum())
            bounded = margins.exp() - 1
            rule = {"off": weight, "official": bounded, "signed": -bounded}
            weight = torch.where(crossed, rule[ste], weight) / len(margins)
            score = value + (weight * (current - current.detach())).sum()
            total = total - clipped((score - before[row][step]).exp(), advantage) / count
        ratios = (tokens - before[row][policy.latents :]).exp()
        total = total - clipped(ratios, advantage).sum() / count
    assert crossings > 20
    assert gradient_gap(found, gradients(policy.model, total)) < 1e-6


def test_soft_labels_have_no_ratio_in_a_later_inner_update() -> None:
    """Slots: A grad CE at the present weights, unclipped; tokens: clipped against the old ones."""
    title, carrier, noise, loss = LEPO
    policy = policy_with(twin("gpt2", dtype=F64), carrier, noise)
    fixed = update_of(policy, loss, Mean())
    old: list[torch.Tensor] = []
    fixed.gradient(old)
    before = [row.detach() for row in naive_positions(policy, fixed.rollouts, title)]
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in policy.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=F64))
    found = fixed.gradient(old)
    centred = (fixed.rollouts.rewards - fixed.rollouts.rewards.mean(1, keepdim=True)).flatten()
    count, total, cut = sum(len(row) for row in before), torch.zeros((), dtype=F64), 0
    for row, score in enumerate(naive_positions(policy, fixed.rollouts, title)):
        advantage, slots = float(centred[row]), policy.latents
        total = total - advantage * score[:slots].sum() / count
        ratios = (score[slots:] - before[row][slots:]).exp()
        cut += int(((ratios - 1).abs() > 0.2).sum())
        total = total - clipped(ratios, advantage).sum() / count
    assert cut > 3
    assert gradient_gap(found, gradients(policy.model, total)) < 1e-6


@pytest.mark.parametrize("method", [LEPO, LATENT_GRPO], ids=lambda m: m[0])
def test_the_penalty_compares_stored_thoughts_under_both_policies(method: Any) -> None:
    """The mean k3 over tokens, and over slots only where these have a ratio; the reference is
    constant."""
    title, carrier, noise, loss = method
    model = twin("gpt2", dtype=F64)
    other = copy.deepcopy(model)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in other.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator, dtype=F64))
    policy, reference = (policy_with(m, carrier, noise) for m in (model, other))
    fixed = update_of(policy, loss, Mean(), reference=reference, kl=2.0)
    found = fixed.gradient([])
    mine = naive_positions(policy, fixed.rollouts, title)
    its = naive_positions(reference, fixed.rollouts, title)
    centred = (fixed.rollouts.rewards - fixed.rollouts.rewards.mean(1, keepdim=True)).flatten()
    count, total = sum(len(row) for row in mine), torch.zeros((), dtype=F64)
    first = policy.latents if title == "lepo" else 0
    penalised = sum(len(row) - first for row in mine)
    for row, (one, two) in enumerate(zip(mine, its, strict=True)):
        difference = two.detach() - one
        assert difference.abs().max() < 10
        k3 = difference.exp() - difference - 1
        total = total - float(centred[row]) * one.sum() / count + 2.0 * k3[first:].sum() / penalised
    assert gradient_gap(found, gradients(policy.model, total)) < 1e-6


def test_without_latent_slots_an_update_is_plain_grpo() -> None:
    """Clipped policy gradient of a language model on prompt, cue and answer; one forward a row."""
    policy = policy_with(twin("gpt2", dtype=F64), Mixture(k=6), latents=0)
    fixed = update_of(policy, Unscored(), MeanStd())
    advantages = standardised(fixed.rollouts.rewards.double().numpy()).flatten()
    total, count = torch.zeros((), dtype=F64), 0
    for row, (prompt, vectors, text) in enumerate(rows_of(fixed.rollouts)):
        assert len(vectors) == 0
        ids = torch.tensor([[*prompt.ids, prompt.cue, *text]])
        logits = policy.model(ids).logits[0, -len(text) - 1 : -1]
        logits = logits.index_fill(-1, torch.tensor(policy.forbidden), float("-inf"))
        score = -torch.nn.functional.cross_entropy(logits, torch.tensor(text), reduction="sum")
        total, count = total - advantages[row] * score, count + len(text)
    assert gradient_gap(fixed.gradient([]), gradients(policy.model, total / count)) < 1e-6


@pytest.mark.parametrize("loss", [SoftCe(), GumbelSurrogate(), Unscored()], ids=repr)
def test_no_slots_have_no_scores(loss: Any) -> None:
    empty = torch.zeros(3, 0, 5, dtype=F64)
    choice = {"scores": empty, "weights": empty}
    assert loss.log_probs(empty, choice, empty[..., 0]).shape == (3, 0)


def test_without_a_latent_loss_slots_are_no_positions() -> None:
    """The answer's gradient runs through all thoughts, and N counts tokens alone."""
    policy = policy_with(twin("gpt2", dtype=F64), noise=SharedMask(rate=0.3))
    fixed = update_of(policy, Unscored(), Mean())
    width = fixed.rollouts.answers.text.ids.shape[1]
    assert advantages_of(fixed.rollouts, fixed.module.objective).shape == (4, 4, width)
    batch = collate_prompts(fixed.rollouts.prompts, LAYOUT.markers.pad)
    replay = policy.replay(batch, fixed.rollouts.noise, fixed.rollouts.answers.text, 4)
    centred = fixed.rollouts.rewards - fixed.rollouts.rewards.mean(dim=1, keepdim=True)
    total = -(centred.flatten()[:, None] * replay.log_probs).sum() / int(
        fixed.rollouts.answers.text.mask.sum()
    )
    assert gradient_gap(fixed.gradient([]), gradients(policy.model, total)) < 1e-9
