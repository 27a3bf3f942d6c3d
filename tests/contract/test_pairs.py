"""Every noise with every carrier that it goes with, on random twins: the promises that make rollout
and replay one thing, and what is frozen while they are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from checks import LATENTS, LAYOUT, gap, make_prompts, parity, replayed, rolled, twin
from plain import policy_with

from latentbench.advantage.mean import Mean
from latentbench.carrier.mixture import Mixture
from latentbench.carrier.projector import Projector
from latentbench.config import plugins
from latentbench.config.compatibility import Combination, objection
from latentbench.config.sections import AnswerConfig, RlConfig
from latentbench.keys import Key, Purpose
from latentbench.latent_loss.gumbel_surrogate import GumbelSurrogate
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.model.policy import Policy, fresh_draws
from latentbench.noise.gaussian import Gaussian
from latentbench.noise.gaussian_weight import GaussianWeight
from latentbench.noise.gumbel import Gumbel
from latentbench.noise.native_dropout import NativeDropout
from latentbench.noise.none import None_
from latentbench.noise.one_sided_gumbel import OneSidedGumbel
from latentbench.noise.per_step_mask import PerStepMask
from latentbench.noise.shared_mask import SharedMask
from latentbench.noise.svd_weight import SvdWeight
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import NoiseRecord, Rollouts, collate_prompts
from latentbench.training.rl import RlModule
from latentbench.training.update import Objective, advantages_of
from latentbench.transform.first_token import FirstToken
from latentbench.transform.invalid_mask import InvalidMask


def parts(kind: str, **chosen: Any) -> dict[str, Any]:
    """Every plug-in of a kind by name, `chosen` or with its own defaults."""
    names = plugins.file_names(kind)
    return {name: chosen.get(name) or plugins.plugin(kind, name)() for name in names}  # type: ignore[misc]


CARRIERS = parts("carrier", mixture=Mixture(k=30))
NOISES = parts(  # strong enough to be seen
    "noise",
    shared_mask=SharedMask(rate=0.3),
    per_step_mask=PerStepMask(rate=0.3),
    native_dropout=NativeDropout(rate=0.3),
    gaussian=Gaussian(0.3),
    gaussian_weight=GaussianWeight(0.1),
    svd_weight=SvdWeight(0.6),
)
LOSSES = parts("latent_loss")
SIZE = 4


@dataclass(frozen=True)
class Pair:
    """A carrier and a noise by name; the noise perhaps with other knobs."""

    carrier: str
    noise: str
    source: Any
    family: str = "gpt2"

    def policy(self, source: Any = None) -> Policy:
        model = twin(self.family)
        carrier = CARRIERS[self.carrier]
        if isinstance(carrier, Projector):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                carrier.build(model)
        return policy_with(model, carrier, source or self.source)

    def reason(self, loss: str = "none") -> str | None:
        carrier, noise = (self.carrier, CARRIERS[self.carrier]), (self.noise, self.source)
        return objection(Combination(carrier, noise, (loss, LOSSES[loss]), ()))

    def __str__(self) -> str:
        knobs = [str(getattr(self.source, name, "")) for name in ("scope", "pairs")]
        return "-".join(filter(None, [self.family, self.carrier, self.noise, *knobs]))


def variants(source: Any) -> list[Any]:
    """A source in every scope it knows, and masks in pairs."""
    knobs, found = {field.name for field in fields(source)}, [source]
    if "scope" in knobs:
        found = [replace(source, scope=s) for s in ("latent", "prompt+latent", "all")]
    if "pairs" in knobs:
        found += [replace(source, pairs=pairs) for pairs in ("antithetic", "same")]
    return found


EVERY = [
    Pair(carrier, noise, source)
    for carrier in CARRIERS
    for noise, plain in NOISES.items()
    for source in variants(plain)
] + [Pair(carrier, noise, NOISES[noise], "llama") for carrier in CARRIERS for noise in NOISES]
LEGAL = [pair for pair in EVERY if pair.reason() is None]
REPLAYED = [pair for pair in LEGAL if pair.source.replayed]
ON = [pair for pair in LEGAL if pair.noise != "none"]


def all_of(pairs: list[Pair]) -> Any:
    return pytest.mark.parametrize("pair", pairs, ids=str)


PROMPTS = make_prompts(3)


def run(policy: Policy, prompts: Any = PROMPTS, size: int = SIZE, **changes: Any) -> Rollouts:
    """A roll-out; noise that is not replayed draws from a stream of its own."""
    with fresh_draws(policy.noise, Key(0, Purpose.FRESH), policy.device):
        return rolled(policy, prompts, size, budget=4, **changes)


RUNS: dict[str, tuple[Policy, Rollouts]] = {}


def policy_and_run(pair: Pair) -> tuple[Policy, Rollouts]:
    """Made once for all tests; none of them changes the model."""
    if str(pair) not in RUNS:
        policy = pair.policy()
        RUNS[str(pair)] = policy, run(policy)
    return RUNS[str(pair)]


@all_of(LEGAL)
def test_a_replay_scores_what_was_rolled_out(pair: Pair) -> None:
    """Ratio 1 at the old parameters, and the thoughts again; not so for the negative control."""
    policy, rollouts = policy_and_run(pair)
    with torch.no_grad(), fresh_draws(policy.noise, Key(1, Purpose.FRESH), policy.device):
        replay = replayed(policy, rollouts)
    off = gap(replay.log_probs, rollouts.answers.log_probs)
    if pair.source.replayed:
        assert off < 1e-5 and gap(replay.thoughts, rollouts.thoughts.vectors) < 1e-5
    else:
        assert pair.noise == "native_dropout" and off > 1e-2


def by_token(choice: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A mixture is a sum: two terms that are equal up to rounding may come in either order."""
    if "ids" not in choice:
        return dict(choice)
    order = choice["ids"].argsort(dim=-1)
    return {name: values.gather(-1, order) for name, values in choice.items()}


def same(one: Rollouts, other: Rollouts, rows: slice = slice(None)) -> bool:
    """Whether `other` is these rows of `one`, up to rounding."""
    width = other.answers.text.ids.shape[1]
    ours, theirs = by_token(one.thoughts.choice), by_token(other.thoughts.choice)
    for name, chosen in ours.items():
        finite = [t.clamp(min=-1e3) for t in (chosen[rows], theirs[name])]
        if gap(*finite) > 1e-4:
            return False
    return (
        one.texts[rows] == other.texts
        and gap(one.thoughts.vectors[rows], other.thoughts.vectors) < 1e-5
        and gap(one.answers.log_probs[rows, :width], other.answers.log_probs) < 1e-5
    )


@all_of(REPLAYED)
def test_a_row_does_not_depend_on_its_batch(pair: Pair) -> None:
    """Chunk by chunk, prompt by prompt, in another order, and each rollout by itself. Nor does the
    dispersion, a ratio over the whole batch: `rl.rollout_rows` is memory."""
    policy, rollouts = policy_and_run(pair)
    chunked = run(policy, max_rows=SIZE)
    assert same(rollouts, chunked)
    assert abs(chunked.dispersion - rollouts.dispersion) < 1e-5, "no mean of ratios of chunks"
    assert same(rollouts, run(policy, PROMPTS[1:2]), slice(SIZE, 2 * SIZE))
    turned = run(policy, PROMPTS[::-1])
    assert same(rollouts, turned.groups([2, 1, 0]))
    prompt, k = PROMPTS[2], 3
    key = Key(0, Purpose.NOISE, 0, prompt.uid, k)
    record = policy.noise.draw([key], policy.sites(), LATENTS)
    with torch.no_grad():
        _, alone = policy.latent_phase(collate_prompts([prompt], LAYOUT.markers.pad), record, 1)
    assert gap(alone.vectors[0], rollouts.thoughts.vectors[2 * SIZE + k]) < 1e-5


@all_of(REPLAYED)
def test_draws_belong_to_their_keys(pair: Pair) -> None:
    """The same key, the same draw, to the bit; another rollout, prompt, update or seed, another."""
    policy, rollouts = policy_and_run(pair)
    key = Key(0, Purpose.NOISE, 0, PROMPTS[0].uid, 0)
    others = [replace(key, rollout=2), replace(key, prompt=5), replace(key, step=1)]
    keys = [key, replace(key, seed=1), *others]
    sites = policy.sites()
    record, again = (policy.noise.draw(keys, sites, LATENTS) for _ in range(2))
    assert set(record.tensors) == set(rollouts.noise.tensors)
    assert bool(record.tensors) == (pair.noise != "none")
    for name, tensor in record.tensors.items():
        assert torch.equal(tensor, again.tensors[name])
        assert torch.equal(tensor[0], rollouts.noise.tensors[name][0])
        assert len(torch.unique(tensor.flatten(1), dim=0)) == len(keys)
        picked = policy.noise.draw(keys[3:1:-1], sites, LATENTS).tensors[name]
        assert torch.equal(picked, tensor[[3, 2]])


def silent(source: Any) -> Any:
    """The source at strength zero, with all else that would change a thought turned off."""
    neutral = {"top_p": 1.0, "tau": 1.0} if isinstance(source, Gumbel) else {}
    return replace(source, **{source.strength: 0.0}, **neutral)


@all_of(LEGAL)
def test_rollouts_disperse_exactly_when_noise_is_on(pair: Pair) -> None:
    """After the last slot; where pause feeds one vector whatever happens, the states differ."""
    _, rollouts = policy_and_run(pair)
    if pair.noise == "none":
        assert rollouts.dispersion == 0.0
    else:
        assert rollouts.dispersion > 1e-3


@all_of(ON)
def test_at_strength_zero_a_source_is_no_noise_to_the_bit(pair: Pair) -> None:
    quiet = pair.policy(silent(pair.source))
    found, truth = run(quiet), no_noise(pair.carrier, pair.family)
    assert quiet.noise.diverges == "answer"
    assert torch.equal(found.thoughts.vectors, truth.thoughts.vectors)
    assert torch.equal(found.thoughts.sources, truth.thoughts.sources)
    assert torch.equal(found.answers.text.ids, truth.answers.text.ids)
    assert torch.equal(found.answers.log_probs, truth.answers.log_probs)
    assert found.dispersion == 0.0


def no_noise(carrier: str, family: str) -> Rollouts:
    return policy_and_run(Pair(carrier, "none", NOISES["none"], family))[1]


@pytest.mark.parametrize("noise", sorted(set(NOISES) - {"none"}))
def test_a_source_names_its_strength(noise: str) -> None:
    source = NOISES[noise]
    assert getattr(source, source.strength) > 0
    assert silent(source).diverges == "answer" and source.diverges in ("prompt", "latent")


# -- what does not go together -------------------------------------------------------------------


def test_only_noise_on_scores_needs_a_carrier_that_mixes() -> None:
    refused = {(pair.carrier, pair.noise) for pair in EVERY if pair.reason() is not None}
    plain = set(CARRIERS) - {"mixture"}
    assert refused == {(c, n) for c in plain for n in ("gumbel", "one_sided_gumbel")}


@all_of([pair for pair in EVERY if pair.family == "gpt2" and pair.reason() is not None])
def test_a_refused_pair_is_told_why(pair: Pair) -> None:
    """In one line that names both options and a way out."""
    reason = pair.reason()
    assert reason is not None and "\n" not in reason
    assert f"noise={pair.noise}" in reason and f"carrier={pair.carrier}" in reason
    assert "use carrier=mixture" in reason


def test_a_filter_wider_than_the_mixture_is_refused() -> None:
    parts = (("mixture", Mixture(k=10)), ("gumbel", Gumbel(top_k=11)), ("none", Unscored()), ())
    reason = objection(Combination(*parts))
    assert reason is not None and "noise.top_k=11" in reason and "carrier.k=10" in reason
    assert objection(Combination(parts[0], ("gumbel", Gumbel(top_k=10)), *parts[2:])) is None


def test_the_mask_of_invalid_samples_stands_first_whatever_its_variant() -> None:
    mixed = (("mixture", Mixture()), ("one_sided_gumbel", OneSidedGumbel()))
    scored = ("gumbel_surrogate", GumbelSurrogate())
    for variant in ("excluded", "zeroed"):
        mask, lead = ("invalid_mask", InvalidMask(variant)), ("first_token", FirstToken())
        assert objection(Combination(*mixed, scored, (mask, lead))) is None
        reason = objection(Combination(*mixed, scored, (lead, mask)))
        assert reason is not None and "transform=[invalid_mask,first_token]" in reason


def test_a_surrogate_of_noise_without_strength_is_refused() -> None:
    parts = ("mixture", Mixture()), ("two_sided_gumbel", OneSidedGumbel(scale=0.0))
    reason = objection(Combination(*parts, ("gumbel_surrogate", GumbelSurrogate()), ()))
    assert reason is not None and "set noise.scale above 0" in reason
    assert "noise=two_sided_gumbel" in reason


SCORED = [
    (Pair(carrier, noise, NOISES[noise]), loss)
    for carrier in CARRIERS
    for noise in NOISES
    for loss in ("soft_ce", "gumbel_surrogate")
]


@pytest.mark.parametrize(("pair", "loss"), SCORED, ids=lambda part: str(part))
def test_a_scored_pair_replays_its_choices_or_is_told_why_not(pair: Pair, loss: str) -> None:
    """Under masks and weight noise too, stored thoughts are scored as when they were sampled."""
    reason = pair.reason(loss)
    if reason is not None:
        named = [f"latent_loss={loss}", f"noise={pair.noise}", f"carrier={pair.carrier}"]
        assert sum(name in reason for name in named) >= 2 and "use " in reason
        return
    assert pair.carrier == "mixture"
    policy, rollouts = policy_and_run(pair)
    batch = collate_prompts(rollouts.prompts, LAYOUT.markers.pad)
    text, choice = rollouts.answers.text, rollouts.thoughts.choice
    with torch.no_grad():
        replay = policy.replay(batch, rollouts.noise, text, SIZE, 1.0, rollouts.thoughts)
    assert replay.choice_log_probs is not None
    even = torch.zeros(len(text.ids), LATENTS)
    scores = [
        LOSSES[loss].log_probs(log_probs, choice, even)
        for log_probs in (replay.choice_log_probs, choice["log_probs"])
    ]
    assert scores[0].isfinite().all() and gap(*scores) < 1e-5
    assert gap(replay.log_probs, rollouts.answers.log_probs) < 1e-5


def test_which_scored_combinations_are_legal() -> None:
    """A soft label needs a mixture; a surrogate of margins needs the noise that makes them."""
    legal = {(p.carrier, p.noise, loss) for p, loss in SCORED if p.reason(loss) is None}
    soft = {name for name, n in NOISES.items() if n.replayed and "thought" not in n.acts_on}
    assert legal == {("mixture", noise, "soft_ce") for noise in soft} | {
        ("mixture", "one_sided_gumbel", "gumbel_surrogate")
    }


# -- what is trained -----------------------------------------------------------------------------


def one_update(policy: Policy, trainable: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The weights before and after one real update of RL."""
    objective = Objective(parity, Mean(), (), Clipped(), Unscored())
    config = RlConfig(updates=1, prompts=3, group_size=SIZE, lr=1e-3, trainable=trainable)
    answer = AnswerConfig(1.0, 4)
    module: Any = RlModule(policy, None, LAYOUT, objective, config, answer, [], 0)
    module.manual_backward = lambda value: value.backward()
    optimizer = module.configure_optimizers()
    module.optimizers = lambda: optimizer
    module.full_precision = lambda: True
    rollouts = run(policy)
    assert rollouts.mixed().any()
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    module.learn(rollouts, advantages_of(rollouts, module.objective))
    return before, policy.model.state_dict()


def moved(before: torch.Tensor, after: torch.Tensor) -> bool:
    return not torch.equal(before, after)


TRAINED = pytest.mark.parametrize(
    "pair",
    [
        Pair("hidden", "shared_mask", SharedMask(0.3), "gpt2"),
        Pair("projector", "svd_weight", SvdWeight(0.6), "gpt2"),
        Pair("hidden", "svd_weight", SvdWeight(0.6), "llama"),
        Pair("mixture", "gaussian_weight", GaussianWeight(0.1), "qwen2"),
    ],
    ids=str,
)


@TRAINED
def test_only_value_projections_move(pair: Pair) -> None:
    """All else stays to the bit: in GPT-2 also the query and key columns of the same matrix."""
    before, after = one_update(pair.policy(), "value_projections")
    for name, start in before.items():
        end = after[name]
        if name.endswith("c_attn.weight"):
            assert torch.equal(start[..., :64], end[..., :64])
            assert moved(start[..., 64:], end[..., 64:])
        else:
            assert moved(start, end) == name.endswith("v_proj.weight"), name


@TRAINED
def test_embeddings_and_head_stay(pair: Pair) -> None:
    before, after = one_update(pair.policy(), "no_embeddings")
    frozen = {"transformer.wte.weight", "model.embed_tokens.weight", "lm_head.weight"}
    for name, start in before.items():
        assert moved(start, after[name]) == (name not in frozen), name
    assert frozen & set(before)


@TRAINED
def test_everything_moves_by_default(pair: Pair) -> None:
    before, after = one_update(pair.policy(), "all")
    assert all(moved(start, after[name]) for name, start in before.items())


def test_frozen_columns_change_no_other_slope() -> None:
    """The trained columns get the gradient that they would have had."""
    slopes = []
    for trainable in ("all", "value_projections"):
        policy = Pair("hidden", "shared_mask", SharedMask(0.3)).policy()
        objective = Objective(parity, Mean(), (), Clipped(), Unscored())
        config = RlConfig(updates=1, prompts=3, group_size=SIZE, lr=1e-3, trainable=trainable)
        RlModule(policy, None, LAYOUT, objective, config, AnswerConfig(1.0, 4), [], 0)
        rollouts = run(policy)
        replayed(policy, rollouts).log_probs.sum().backward()
        slopes.append(policy.model.transformer.h[0].attn.c_attn.weight.grad)
    assert (slopes[1][:, :64] == 0).all() and slopes[0][:, :64].abs().max() > 1e-3
    assert torch.equal(slopes[0][:, 64:], slopes[1][:, 64:])


def test_a_record_without_noise_is_empty() -> None:
    policy = Pair("mixture", "none", None_()).policy()
    assert policy.noise.draw([Key(0, Purpose.NOISE)], policy.sites(), LATENTS) == NoiseRecord()
