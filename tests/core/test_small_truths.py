"""Facts that one wrong word would change and nothing else would show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from checks import LAYOUT, gap, make_policy, make_prompts, replayed, rolled, twin
from plain import policy_with
from test_rl_step import MASK, fitted, module_of

from latentbench.analysis.stats import permutation_p
from latentbench.carrier.mixture import Mixture
from latentbench.config.sections import AnswerConfig, ProtocolConfig, SftConfig
from latentbench.curriculum.coconut import Coconut
from latentbench.evaluation import benchmark as examined
from latentbench.evaluation.benchmark import Benchmark, Examination
from latentbench.keys import Key, Purpose
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.latent_loss.soft_ce import SoftCe
from latentbench.model.backbone import set_dropout
from latentbench.noise.gaussian import Gaussian
from latentbench.noise.gaussian_weight import GaussianWeight
from latentbench.noise.gumbel import Gumbel
from latentbench.noise.none import None_
from latentbench.noise.shared_mask import SharedMask
from latentbench.noise.svd_weight import SvdWeight
from latentbench.records import Item, Slots, collate_prompts
from latentbench.reward.exact_number import ExactNumber
from latentbench.sft_loss.lexical import Lexical
from latentbench.sft_loss.text import TextLoss as TextLoss
from latentbench.training.data import Stages, sft_rows
from latentbench.training.greedy import greedy_accuracy
from latentbench.training.sft import SftModule
from latentbench.training.update import PartLoss, Scorer, replay_gap

PROMPTS = make_prompts(3)
SLOTS = Slots(per_step=1, max_stage=2, pad_to_max=True)
ITEMS = [Item("1+2=", ("3",), "3"), Item("1+2+3=", ("3", "66"), "6"), Item("4=", (), "4")]


@pytest.mark.parametrize("temperature", [0.5, 0.7, 2.0])
def test_a_replay_is_at_the_temperature_of_the_answers(temperature: float, tmp_path: Any) -> None:
    """In a whole update: at another one the replay would miss the rollout."""
    module = module_of(make_policy(twin("gpt2"), MASK), answer=AnswerConfig(temperature, 5))
    fitted(tmp_path, module)
    gaps = [curve["train/replay_gap"] for curve in module.curves if "train/replay_gap" in curve]
    assert gaps and max(gaps) < 1e-4


def test_stored_choices_are_scored_at_temperature_one() -> None:
    """The text at its own: a slot's law knows no temperature of the answers."""
    policy = policy_with(twin("gpt2"), Mixture(k=6), Gumbel(top_k=6))
    rollouts = rolled(policy, PROMPTS, temperature=0.5)
    scorer = Scorer(policy, SoftCe(), 0.5, LAYOUT.markers.pad)
    replay = scorer.replay(rollouts)
    assert replay.choice_log_probs is not None
    mixed = rollouts.thoughts.choice["weights"] > 0
    found = torch.where(mixed, replay.choice_log_probs, 0.0)
    recorded = torch.where(mixed, rollouts.thoughts.choice["log_probs"], 0.0)
    assert gap(found.detach(), recorded) < 1e-4
    assert gap(replay.log_probs.detach(), rollouts.answers.log_probs) < 1e-4


def test_the_replay_gap_is_the_largest_difference_of_a_written_token() -> None:
    rollouts = rolled(make_policy(twin("gpt2"), MASK), PROMPTS, 4)
    mask = rollouts.answers.text.mask.bool()
    assert not mask.all(), "some rows are padded"
    off = torch.zeros_like(rollouts.answers.log_probs)
    off[~mask] = 9.0
    places = mask.nonzero()
    off[tuple(places[1])], off[tuple(places[-1])] = 0.25, -0.75
    found = PartLoss(torch.tensor(0.0), rollouts.answers.log_probs + off, off, {})
    assert float(replay_gap(found, rollouts, Unscored())) == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize("noise", [GaussianWeight(0.1), SvdWeight(0.6)])
def test_every_layer_has_weight_noise_of_its_own(noise: Any) -> None:
    policy = make_policy(twin("llama"), noise)
    keys = [Key(0, Purpose.NOISE, 0, 1, k) for k in range(2)]
    record = policy.noise.draw(keys, policy.sites(), policy.latents)
    layers = [tensor for tensor in record.tensors.values() if tensor.numel() > len(keys)]
    assert len(layers) >= 2
    for place, one in enumerate(layers):
        for other in layers[place + 1 :]:
            assert one.shape != other.shape or not torch.equal(one, other)


@pytest.mark.parametrize("loss", [Lexical(), Lexical(weight=3.0)])
def test_a_lexical_loss_adds_up_over_micro_batches(loss: Lexical) -> None:
    """Rows with one, two and no targets; each part is divided by the slots of the whole batch."""
    policy = policy_with(twin("gpt2", dtype=torch.float64), Mixture(k=6), latents=2)
    config = SftConfig(lr=1.0, batch_size=3, stages=[1, 1, 1])
    needs = loss.needs
    rows = sft_rows(ITEMS, 2, 0, Coconut(), SLOTS, LAYOUT, config, 0, needs)
    assert [sum(1 for t in row.targets if t) for row in rows] == [1, 2, 0]
    pad = LAYOUT.markers.pad
    whole = loss(policy, rows, rows, pad)
    parts = [loss(policy, [row], rows, pad) for row in rows]
    assert gap(torch.stack(parts).sum(), whole) < 1e-9


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_all_dropout_of_a_model_is_set(family: str) -> None:
    """Also the rate that a module keeps as a number."""
    model = twin(family)
    for rate in (0.3, 0.0):
        set_dropout(model, rate)
        rates = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
        rates += [m.attention_dropout for m in model.modules() if hasattr(m, "attention_dropout")]
        numbers = [value for value in rates if isinstance(value, float)]
        assert numbers and set(numbers) == {rate}


def test_every_update_of_sft_has_dropout_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy(twin("gpt2"), latents=2)
    config = SftConfig(lr=1e-3, batch_size=3, stages=[3, 3, 3], dropout=0.5)
    stages = Stages((3, 3, 3), "updates", 1)
    module = SftModule(policy, LAYOUT, Coconut(), SLOTS, stages, TextLoss(), config, 0)
    monkeypatch.setattr(module, "manual_backward", lambda loss: None)
    rows = sft_rows(ITEMS, 1, 0, Coconut(), SLOTS, LAYOUT, config, 0)
    losses = []
    for update in (0, 1, 2, 0):
        module.update = update
        losses.append(module._backward(rows))
    assert losses[0] == losses[3] and len(set(losses)) == 3


def test_validation_is_without_noise() -> None:
    noisy = make_policy(twin("gpt2"), SharedMask(rate=0.9))
    written: list[list[str]] = []
    for policy in (noisy, noisy.under(None_())):
        texts: list[str] = []
        greedy_accuracy(
            policy, PROMPTS, LAYOUT, lambda text, gold, t=texts: t.append(text) or 0.0, 6, "here"
        )
        written.append(texts)
    assert written[0] == written[1]
    disturbed = rolled(noisy, PROMPTS, 1, temperature=0.0)
    assert list(disturbed.texts) != written[0]


def test_the_best_weights_on_validation_are_those_that_stay() -> None:
    module = module_of(make_policy(twin("gpt2"), MASK), select="validation", validate_every=1)
    best = {name: value + 1.0 for name, value in module.model.state_dict().items()}
    module.best = {"accuracy": 0.5, "update": 3, "weights": best}
    module.on_train_end()
    for name, value in module.model.state_dict().items():
        assert torch.equal(value, best[name]), name


@pytest.mark.parametrize("purpose", [Purpose.TEST_NOISE, Purpose.NOISE])
def test_at_test_a_schedule_has_come_to_its_end(purpose: Purpose) -> None:
    noise = SharedMask(rate=0.0, rate_end=0.9, schedule="linear", rate_updates=10)
    policy = make_policy(twin("gpt2"), noise)
    keys = [Key(0, purpose, 0, 1, k) for k in range(20)]
    masks = policy.noise.draw(keys, policy.sites(), policy.latents).tensors.values()
    dropped = float(torch.cat([(mask == 0).flatten() for mask in masks]).float().mean())
    assert dropped == pytest.approx(0.9 if purpose is Purpose.TEST_NOISE else 0.0, abs=0.03)


def test_forced_thoughts_are_fed_as_they_are() -> None:
    """Noise on thoughts is in them already."""
    policy = make_policy(twin("gpt2"), Gaussian(0.5))
    rollouts = rolled(policy, PROMPTS, 2)
    batch = collate_prompts(PROMPTS, LAYOUT.markers.pad)
    forced = rollouts.thoughts.vectors
    with torch.no_grad():
        _, thoughts = policy.latent_phase(batch, rollouts.noise, 2, forced)
    assert torch.equal(thoughts.vectors, forced)
    assert gap(replayed(policy, rollouts).thoughts.detach(), forced) < 1e-5


def test_a_permutation_p_counts_the_sample_itself() -> None:
    ahead = permutation_p(np.ones(60), np.zeros(60), resamples=200)
    assert ahead == pytest.approx(1 / 201)


@pytest.mark.parametrize(
    ("explore", "streams"),
    [
        ("answer", {Purpose.TEST_ANSWER}),
        ("latent", {Purpose.TEST_NOISE}),
        ("both", {Purpose.TEST_NOISE, Purpose.TEST_ANSWER}),
    ],
)
def test_tests_have_streams_of_their_own(
    explore: str, streams: set[Purpose], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[Purpose] = set()
    original = examined.rollout_keys

    def watching(seed: int, purpose: Purpose, *rest: Any) -> list[Key]:
        seen.add(purpose)
        return original(seed, purpose, *rest)

    monkeypatch.setattr(examined, "rollout_keys", watching)
    protocol = replace(ProtocolConfig(samples=2, ks=[1]), explore=explore, batch_rows=8)
    benchmark = Benchmark("b", tuple(PROMPTS), reward=ExactNumber())
    policy = make_policy(twin("gpt2"), MASK)
    Examination(policy, benchmark, LAYOUT, protocol, 4, "final").answer([0, 1, 2], None)
    assert seen == streams
