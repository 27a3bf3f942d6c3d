"""Noise on weights, on thoughts and by dropout: weight noise against models with edited weights,
and what is drawn, paired and scheduled."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checks import (
    LAYOUT,
    _keep_norms_exact,
    gap,
    gradient_gap,
    gradients,
    make_prompts,
    naive_scores,
    parity,
    philox,
    replayed,
    rolled,
    twin,
)
from plain import policy_with
from scipy import stats

from latentbench.advantage.mean import Mean
from latentbench.carrier.mixture import Mixture
from latentbench.config.sections import AnswerConfig, RlConfig, TrainerConfig
from latentbench.data.arithmetic import Arithmetic
from latentbench.errors import InputError
from latentbench.keys import Key, Purpose, rollout_keys
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.model.policy import Policy, fresh_draws
from latentbench.noise import Site
from latentbench.noise.gaussian import Gaussian
from latentbench.noise.gaussian_weight import GaussianWeight
from latentbench.noise.native_dropout import NativeDropout
from latentbench.noise.none import None_
from latentbench.noise.per_step_mask import PerStepMask
from latentbench.noise.shared_mask import SharedMask
from latentbench.noise.svd_weight import SvdWeight
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import NoiseRecord, Rollouts, collate_prompts
from latentbench.training.data import TrainingData
from latentbench.training.fitting import fit
from latentbench.training.rl import RlModule
from latentbench.training.update import Objective

F64 = torch.float64
SCOPES = ("latent", "prompt+latent", "all")


# -- value projections, found by hand ------------------------------------------------------------


def value_weight(model: Any, layer: int) -> torch.Tensor:
    """A view [input, output] of the value projection of a block."""
    if hasattr(model, "transformer"):
        return model.transformer.h[layer].attn.c_attn.weight.data[:, 64:96]
    return model.model.layers[layer].self_attn.v_proj.weight.data.T


def edited(model: Any, disturbances: Mapping[int, np.ndarray]) -> Any:
    """A copy of the model with W + D for its value weights W."""
    other = copy.deepcopy(model)
    _keep_norms_exact(other)  # the model's own are bound to its weights
    for layer, disturbance in disturbances.items():
        weight = value_weight(other, layer)
        weight += torch.from_numpy(disturbance).to(weight)
    return other


def weight_disturbance(model: Any, noise: Any, record: NoiseRecord, row: int, layer: int) -> Any:
    """D of a row: the recorded matrix, or a U S eps V^T of the weights as they are."""
    drawn = record.tensors[f"value.{layer}"][row].double().numpy()
    if isinstance(noise, GaussianWeight):
        return drawn
    weight = value_weight(model, layer).double().numpy()
    left, values, right = np.linalg.svd(weight, full_matrices=False)
    return noise.scale * left @ np.diag(values * drawn) @ right


def disturbances(model: Any, noise: Any, record: NoiseRecord, row: int) -> dict[int, np.ndarray]:
    return {layer: weight_disturbance(model, noise, record, row, layer) for layer in range(2)}


def of_phases(
    policy: Policy, other: Policy, rollouts: Rollouts, row: int, scope: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Thoughts and token scores of a row when `other` runs the phases of the scope, noise-free."""
    nothing = NoiseRecord()
    clean = policy.under(None_())
    prompt = collate_prompts([rollouts.prompts[row // 3]], LAYOUT.markers.pad)
    length = int(rollouts.answers.text.mask[row].sum())
    text = rollouts.answers.text.rows(slice(row, row + 1))
    state = (clean if scope == "latent" else other).prefill(prompt, nothing)
    state, thoughts = other.think(state, nothing)
    reader = other if scope == "all" else clean
    law = reader.log_law(reader.read(state, prompt.cue, nothing, text))
    scores = law.gather(-1, text.ids[..., None])[0, :length, 0]
    return thoughts.vectors[0], scores


WEIGHTS = [
    GaussianWeight(scale=0.1),
    GaussianWeight(scale=0.4, relative=True),
    SvdWeight(scale=0.6),
]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("noise", WEIGHTS, ids=repr)
def test_a_row_under_weight_noise_is_a_model_with_edited_weights(
    name: str, noise: Any, scope: str
) -> None:
    """Row by row, in the phases of the scope; the answer is written with the clean weights."""
    exact_model = twin(name, dtype=F64)
    noise = type(noise)(**{**vars(noise), "scope": scope})
    policy = policy_with(exact_model, noise=noise)
    rollouts = rolled(policy, make_prompts(2))
    replay = replayed(policy, rollouts)
    clean = rolled(policy.under(None_()), make_prompts(2))
    assert gap(clean.thoughts.vectors[:, -1], rollouts.thoughts.vectors[:, -1]) > 1e-2
    for row in range(6):
        changes = disturbances(exact_model, noise, rollouts.noise, row)
        other = policy_with(edited(exact_model, changes))
        with torch.no_grad():
            thoughts, scores = of_phases(policy, other, rollouts, row, scope)
        assert gap(rollouts.thoughts.vectors[row], thoughts) < 1e-5
        assert gap(rollouts.answers.log_probs[row, : len(scores)], scores) < 1e-5
        assert gap(replay.log_probs[row, : len(scores)], scores) < 1e-5
        if scope == "all":
            text = rollouts.answers.text.ids[row, : len(scores)].tolist()
            plain = naive_scores(
                other.model, rollouts.prompts[row // 3], text, policy.latents, policy.forbidden
            )
            assert gap(plain.log_probs, scores) < 1e-9
            assert gap(plain.thoughts, thoughts) < 1e-9


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize(
    "noise", [GaussianWeight(0.1, scope="all"), SvdWeight(0.6, "all")], ids=repr
)
def test_the_gradient_is_that_of_the_edited_model(name: str, noise: Any) -> None:
    """The disturbance is exogenous: d(x W + x D)/dW, and x itself runs through D."""
    model = twin(name, dtype=F64)
    policy = policy_with(model, noise=noise)
    rollouts = rolled(policy, make_prompts(1), 3)
    replay = replayed(policy, rollouts)
    found = gradients(model, replay.log_probs.sum())
    truth = [torch.zeros_like(slope) for slope in found]
    for row in range(3):
        other = edited(model, disturbances(model, noise, rollouts.noise, row))
        length = int(rollouts.answers.text.mask[row].sum())
        text = rollouts.answers.text.ids[row, :length].tolist()
        plain = naive_scores(other, rollouts.prompts[0], text, policy.latents, policy.forbidden)
        for total, slope in zip(truth, gradients(other, plain.log_probs.sum()), strict=True):
            total += slope
    assert gradient_gap(found, truth) < 1e-5


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("noise", WEIGHTS, ids=repr)
def test_a_disturbance_stays_when_the_weights_move(name: str, noise: Any) -> None:
    """Replay after an update: the new W plus the D of the time of the draw."""
    model = twin(name, dtype=F64)
    policy = policy_with(model, noise=noise)
    rollouts = rolled(policy, make_prompts(2))
    before = [disturbances(model, noise, rollouts.noise, row) for row in range(6)]
    for layer in range(2):
        weight = value_weight(model, layer)
        generator = torch.Generator().manual_seed(layer)
        weight += 0.1 * torch.randn(weight.shape, generator=generator, dtype=F64)
    with torch.no_grad():
        replay = replayed(policy, rollouts)
    for row in range(6):
        other = policy_with(edited(model, before[row]))
        with torch.no_grad():
            _, scores = of_phases(policy, other, rollouts, row, "prompt+latent")
        assert gap(replay.log_probs[row, : len(scores)], scores) < 1e-5
    if isinstance(noise, SvdWeight):
        moved = disturbances(model, noise, rollouts.noise, 0)
        assert np.abs(moved[0] - before[0][0]).max() > 1e-2, "it would have moved"


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2"])
def test_value_sites_have_the_weights_and_widths_of_the_family(name: str) -> None:
    model = twin(name)
    sites = policy_with(model).sites()
    for layer in range(2):
        site = sites[f"value.{layer}"]
        assert site.width == (
            32 if name == "gpt2" else 16
        )  # two heads of four hold keys and values
        assert site.weight is not None and not site.weight.requires_grad
        assert torch.equal(site.weight, value_weight(model, layer))


def test_entries_of_weight_noise_are_standard_normal_numbers() -> None:
    """Absolute: of deviation `scale`; relative: in units of the layer's root mean square."""
    weight = 3.0 * torch.eye(40)
    sites = {"mlp.0": Site(40), "value.0": Site(40, weight), "value.1": Site(40, 2 * weight)}
    keys = [Key(0, Purpose.NOISE, 0, 0, k) for k in range(30)]
    root = 3.0 / math.sqrt(40)
    for noise, units in (
        (GaussianWeight(0.1), (0.1, 0.1)),
        (GaussianWeight(0.1, relative=True), (0.1 * root, 0.2 * root)),
    ):
        record = noise.draw(keys, sites, 3)
        assert set(record.tensors) == {"value.0", "value.1"}
        for layer, unit in enumerate(units):
            numbers = record.tensors[f"value.{layer}"].numpy()
            assert numbers.shape == (30, 40, 40)
            assert stats.kstest(numbers.ravel() / unit, stats.norm.cdf).pvalue > 1e-3
    drawn = SvdWeight(0.6).draw(keys * 20, sites, 3)
    assert drawn.tensors["value.0"].shape == (600, 40)
    first = SvdWeight(0.6).draw([Key(0, Purpose.NOISE, 0, p) for p in range(200)], sites, 3)
    assert stats.kstest(first.tensors["value.0"].numpy().ravel(), stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("cls", [GaussianWeight, SvdWeight])
def test_knobs_of_weight_noise_out_of_range_are_refused(cls: Any) -> None:
    for knobs in ({"scale": -1.0}, {"scale": float("inf")}, {"scale": float("nan")}):
        with pytest.raises(InputError, match=r"noise\.scale="):
            cls(**knobs)
    with pytest.raises(InputError, match=r"noise\.scope=answer"):
        cls(scope="answer")


# -- Gaussian thoughts ---------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [Gaussian(0.3), Gaussian(0.3, relative=False)], ids=repr)
@pytest.mark.parametrize("carrier", [None, Mixture(k=6)], ids=["hidden", "mixture"])
def test_gaussian_noise_is_added_to_every_thought(
    exact_model: Any, noise: Gaussian, carrier: Any
) -> None:
    """e + s eps, s absolute or relative to the root mean square of e, fresh for every slot."""
    policy = policy_with(exact_model, carrier, noise)
    rollouts = rolled(policy, make_prompts(2))
    table = exact_model.get_input_embeddings().weight.detach().numpy()
    for row in range(6):
        stream = philox(0, int(Purpose.NOISE), 0, rollouts.prompts[row // 3].uid, row % 3)
        draws = stream.standard_normal((policy.latents, 32), dtype=np.float32).astype(float)
        for step in range(policy.latents):
            thought = rollouts.thoughts.sources[row, step].numpy()
            if carrier is not None:
                weights = rollouts.thoughts.choice["weights"][row, step].numpy()
                thought = weights @ table[rollouts.thoughts.choice["ids"][row, step].numpy()]
            scale = noise.scale * (np.sqrt((thought**2).mean()) if noise.relative else 1.0)
            expected = thought + scale * draws[step]
            assert np.abs(rollouts.thoughts.vectors[row, step].numpy() - expected).max() < 1e-12
    drawn = rollouts.noise.tensors["thought"]
    assert gap(drawn[:, 0], drawn[:, 1]) > 0.5


# -- native dropout ------------------------------------------------------------------------------


def test_native_dropout_is_not_replayed(model: Any) -> None:
    """The record says nothing of the masks: a replay is another draw, and so is the next one."""
    policy = policy_with(model, noise=NativeDropout(rate=0.2))
    with fresh_draws(policy.noise, Key(0, Purpose.FRESH), torch.device("cpu")):
        rollouts = rolled(policy, make_prompts(3))
        with torch.no_grad():
            one, two = replayed(policy, rollouts), replayed(policy, rollouts)
    assert rollouts.noise.tensors == {}
    assert gap(one.log_probs, rollouts.answers.log_probs) > 1e-2
    assert gap(one.log_probs, two.log_probs) > 1e-2
    assert gap(one.thoughts[:, -1], two.thoughts[:, -1]) > 1e-2


def test_native_dropout_is_reproducible_by_key_and_leaves_the_generator_alone(gpt2: Any) -> None:
    policy = policy_with(gpt2, noise=NativeDropout(rate=0.2))
    found = []
    for stir, update in ((1, 4), (2, 4), (1, 5)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stir)
            before = torch.get_rng_state()
            with fresh_draws(policy.noise, Key(0, Purpose.FRESH, update), torch.device("cpu")):
                rollouts = rolled(policy, make_prompts(2))
                assert not torch.equal(torch.get_rng_state(), before)
            assert torch.equal(torch.get_rng_state(), before)
        found.append(rollouts)
    assert torch.equal(found[0].thoughts.vectors, found[1].thoughts.vectors)
    assert torch.equal(found[0].answers.log_probs, found[1].answers.log_probs)
    assert gap(found[0].thoughts.vectors[:, -1], found[2].thoughts.vectors[:, -1]) > 1e-2


def test_the_generator_comes_back_after_an_error() -> None:
    before = torch.get_rng_state()
    with (
        pytest.raises(RuntimeError, match="stop"),
        fresh_draws(NativeDropout(), Key(0, Purpose.FRESH), torch.device("cpu")),
    ):
        torch.rand(3)
        raise RuntimeError("stop")
    assert torch.equal(torch.get_rng_state(), before)


def test_fresh_draws_do_nothing_for_noise_that_is_replayed() -> None:
    before = torch.get_rng_state()
    for noise in (None_(), SharedMask(rate=0.3), Gaussian()):
        with fresh_draws(noise, Key(0, Purpose.FRESH), torch.device("cpu")):
            assert torch.equal(torch.get_rng_state(), before)


def test_native_dropout_masks_each_position_and_rollout_anew(gpt2: Any) -> None:
    """Inverted scaling on both residual branches, and nothing outside the scope."""
    sites = policy_with(gpt2).sites()
    ones = torch.ones(50, 20, 32)
    for scope, acting in (("latent", {1, 2}), ("prompt+latent", {0, 1, 2}), ("all", {-1, 0, 1, 2})):
        noise = NativeDropout(rate=0.3, scope=scope)
        record = noise.draw([Key(0, Purpose.NOISE)] * 50, sites, 2)
        for step in (-1, 0, 1, 2):
            effects = noise.effects(record, step)
            named = {f"{kind}.{i}" for kind in ("attention", "mlp") for i in range(2)}
            assert set(effects) == (named if step in acting else set())
            if not effects:
                continue
            with fresh_draws(noise, Key(0, Purpose.FRESH, step + 1), torch.device("cpu")):
                dropped = effects["mlp.1"](ones, ones)
            assert set(dropped.unique().tolist()) == {0.0, float(torch.tensor(1 / 0.7))}
            share = float((dropped == 0).float().mean())
            assert abs(share - 0.3) < 4 * math.sqrt(0.21 / 32_000)
            for axis in (0, 1):  # neither rows nor positions share a mask
                rows = dropped.transpose(0, axis).flatten(1)
                assert len(rows.unique(dim=0)) == len(rows)


def updated(directory: Path, noise: Any) -> dict[str, torch.Tensor]:
    """The weights after two updates, as a run makes them."""
    policy = policy_with(twin("gpt2"), noise=noise)
    objective = Objective(parity, Mean(), (), Clipped(), Unscored())
    config = RlConfig(updates=2, prompts=3, group_size=4, lr=1e-3)
    answer = AnswerConfig(1.0, 4)
    module = RlModule(policy, None, LAYOUT, objective, config, answer, [], 0)
    items = Arithmetic(n_train=20, n_validation=4, n_test=4).load().train
    quiet = TrainerConfig(accelerator="cpu", progress="quiet", checkpoint_every=10_000)
    fit(module, TrainingData(items, 3, 2, 0), quiet, directory, "rl", loggers=[], owner={})
    return {name: value.detach().clone() for name, value in module.model.state_dict().items()}


def test_updates_under_native_dropout_are_reproducible(tmp_path: Path) -> None:
    """Though nothing is replayed: the draws of an update are keyed as a whole."""
    one = updated(tmp_path / "one", NativeDropout(rate=0.2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        two = updated(tmp_path / "two", NativeDropout(rate=0.2))
    assert {name: gap(one[name], two[name]) for name in one if not one[name].equal(two[name])} == {}
    other = updated(tmp_path / "other", NativeDropout(rate=0.1))
    assert any(not one[name].equal(other[name]) for name in one)


# -- pairs and schedules of masks ----------------------------------------------------------------

WIDTH = 400
MASKED = {f"mlp.{i}": Site(WIDTH) for i in range(5)}


def dropped(noise: Any, keys: Sequence[Key]) -> np.ndarray:
    """Which features are dropped [row, mask, feature]."""
    tensors = noise.draw(keys, MASKED, 3).tensors
    return (torch.cat([tensors[site] for site in MASKED], dim=-1) == 0).numpy()


def group(step: int = 0, size: int = 16, prompt: int = 7) -> list[Key]:
    return rollout_keys(0, Purpose.NOISE, step, [prompt], size)


@pytest.mark.parametrize("cls", [SharedMask, PerStepMask])
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("pairs", ["none", "antithetic", "same"])
def test_pairs_of_masks(cls: Any, rate: float, pairs: str) -> None:
    """u and 1 - u: disjoint drops up to p = 1/2, complements at 1/2; both members have rate p."""
    found = dropped(cls(rate=rate, sites=["mlp"], pairs=pairs), group())
    first, second = found[0::2], found[1::2]
    error = math.sqrt(rate * (1 - rate) / first.size)
    assert abs(first.mean() - rate) < 4 * error
    assert abs(second.mean() - rate) < 4 * error
    both = (first & second).mean()
    if pairs == "antithetic":
        assert both == 0 if rate <= 0.5 else abs(both - (2 * rate - 1)) < 0.01
        if rate == 0.5:
            assert (first ^ second).all()
        if rate >= 0.5:
            assert (first | second).all()
    elif pairs == "same":
        assert (first == second).all()
    else:
        assert abs(both - rate**2) < 0.015
    others = first.reshape(8, -1)
    assert len({row.tobytes() for row in others}) == 8, "pairs are drawn apart"


def test_pairing_does_not_reach_other_prompts_or_updates() -> None:
    noise = SharedMask(rate=0.5, sites=["mlp"], pairs="same")
    found = [dropped(noise, keys) for keys in (group(), group(step=1), group(prompt=8))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (found[one] == found[other]).mean() < 0.6
    alone = dropped(noise, group()[4:6])
    assert (alone == found[0][4:6]).all(), "a pair is the same without its neighbours"


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", {0: 0.4, 5: 0.4, 50: 0.4}),
        ("linear", {0: 0.4, 1: 0.37, 5: 0.25, 10: 0.1, 50: 0.1}),
        (
            "cosine",
            {0: 0.4, 5: 0.25, 2: 0.4 - 0.15 * (1 - math.cos(math.pi / 5)), 10: 0.1, 50: 0.1},
        ),
    ],
)
@pytest.mark.parametrize("cls", [SharedMask, PerStepMask])
def test_the_rate_moves_over_the_updates(cls: Any, schedule: str, rates: Any) -> None:
    noise = cls(rate=0.4, sites=["mlp"], schedule=schedule, rate_end=0.1, rate_updates=10)
    for update, rate in rates.items():
        assert abs(noise.rate_at(update) - rate) < 1e-12
        masks = noise.draw(group(step=update), MASKED, 3).tensors["mlp.0"]
        kept = float(masks.max())
        assert abs(kept - 1 / (1 - rate)) < 1e-6, "inverted scaling by the rate of the update"
        share = float((masks == 0).float().mean())
        assert abs(share - rate) < 4 * math.sqrt(rate * (1 - rate) / masks.numel())


def test_a_rate_may_rise_from_nothing() -> None:
    noise = SharedMask(rate=0.0, sites=["mlp"], schedule="linear", rate_end=0.4, rate_updates=10)
    assert noise.diverges == "prompt"
    start = noise.draw(group(step=0), MASKED, 3).tensors["mlp.0"]
    assert torch.equal(start, torch.ones_like(start))
    later = noise.draw(group(step=5), MASKED, 3).tensors["mlp.0"]
    assert abs(float((later == 0).float().mean()) - 0.2) < 0.03


@pytest.mark.parametrize(
    ("knobs", "named"),
    [
        ({"pairs": "twins"}, "noise.pairs=twins"),
        ({"schedule": "step"}, "noise.schedule=step"),
        ({"rate_end": 1.0}, "noise.rate_end=1.0"),
        ({"rate_updates": 0}, "noise.rate_updates=0"),
    ],
)
def test_knobs_of_masks_out_of_range_are_refused(knobs: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        SharedMask(**knobs)
