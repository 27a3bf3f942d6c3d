"""What one update of group-relative RL does to the weights, and what it leaves alone."""

from __future__ import annotations

import copy
import csv
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checks import (
    LAYOUT,
    gap,
    gradient_gap,
    make_policy,
    make_prompts,
    naive_rollout_scores,
    parity,
    rolled,
    twin,
)

from latentbench.advantage.mean import Mean
from latentbench.advantage.mean_std import MeanStd
from latentbench.config.sections import AnswerConfig, RlConfig, TrainerConfig
from latentbench.data.arithmetic import Arithmetic
from latentbench.latent_loss.none import None_ as Unscored
from latentbench.model.policy import Policy
from latentbench.noise.none import None_
from latentbench.noise.per_step_mask import PerStepMask
from latentbench.noise.shared_mask import SharedMask
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import (
    Answers,
    Groups,
    LossInput,
    LossOutput,
    NoiseRecord,
    Rollouts,
    Text,
    Thoughts,
    collate_prompts,
)
from latentbench.runtime.run_directory import METRICS
from latentbench.training.data import TrainingData
from latentbench.training.fitting import fit
from latentbench.training.rl import RlModule
from latentbench.training.update import Objective, advantages_of, kept_groups
from latentbench.transform.invalid_mask import InvalidMask

ITEMS = Arithmetic(n_train=40, n_validation=6, n_test=6).load().train
QUIET = TrainerConfig(accelerator="cpu", progress="quiet", checkpoint_every=10_000)
MASK = SharedMask(rate=0.3)


class Watched(RlModule):
    """An RL module that keeps what it rolled out; `curves` are the rows of metrics.csv."""

    def watch(self) -> Watched:
        self.seen: list[Rollouts] = []
        self.curves: list[dict[str, float]] = []
        return self

    def sample(self, prompts: Any) -> Rollouts:
        self.seen.append(super().sample(prompts))
        return self.seen[-1]


def objective_of(**changes: Any) -> Objective:
    base: dict[str, Any] = {
        "reward": parity,
        "advantage": Mean(),
        "transforms": (),
        "policy_loss": Clipped(),
        "latent_loss": Unscored(),
    }
    base |= changes
    return Objective(**base)


def module_of(
    policy: Policy,
    objective: Objective | None = None,
    answer: AnswerConfig | None = None,
    seed: int = 0,
    reference: Policy | None = None,
    **changes: Any,
) -> Watched:
    base: dict[str, Any] = {"updates": 2, "prompts": 4, "group_size": 4, "lr": 1e-3}
    base |= {"grad_clip": None, **changes}
    config = RlConfig(**base)
    answer = answer or AnswerConfig(1.0, 5)
    objective = objective or objective_of()
    return Watched(policy, reference, LAYOUT, objective, config, answer, [], seed).watch()


def fitted(directory: Path, module: Watched) -> Watched:
    config = module.config
    size = config.prompts * config.over_provision
    feed = TrainingData(ITEMS, size, config.updates, module.seed)
    fit(module, feed, QUIET, directory, "rl", loggers=[], owner={})
    with (directory / METRICS).open(newline="") as stream:
        for row in csv.DictReader(stream):
            module.curves.append({name: float(value) for name, value in row.items() if value})
    assert [curve["step"] for curve in module.curves] == list(range(1, config.updates + 1))
    return module


def weights(module: Any) -> list[torch.Tensor]:
    return [value.detach().clone() for value in module.model.state_dict().values()]


def as_bytes(tensors: Sequence[torch.Tensor]) -> bytes:
    return b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors)


# -- the gradient of an update --------------------------------------------------------------------


class Still:
    """An optimizer that never moves."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        pass

    def step(self) -> None:
        pass


def slopes_of(
    module: Any, rollouts: Rollouts, advantages: torch.Tensor, telling: Sequence[int]
) -> list[torch.Tensor]:
    """The gradient that one inner update would hand to the optimizer."""
    module.manual_backward = lambda loss: loss.backward()
    module.optimizers = Still
    module.model.zero_grad(set_to_none=True)
    module.inner_update(rollouts, advantages, telling, [])
    return [parameter.grad.clone() for parameter in module.model.parameters()]


@pytest.mark.parametrize("aggregate", ["token_sum", "token_mean"])
@pytest.mark.parametrize("noise", [None_(), MASK, PerStepMask(rate=0.3)], ids=lambda n: repr(n)[:8])
def test_the_first_gradient_is_the_advantage_weighted_score(noise: Any, aggregate: str) -> None:
    """-(1/N) sum_k A_k grad log pi(y_k), each row scored alone and without cache."""
    policy = make_policy(twin("gpt2"), noise)
    module = module_of(policy, objective_of(policy_loss=Clipped(aggregate=aggregate)))
    rollouts = rolled(policy, [LAYOUT.prompt(item) for item in ITEMS[:4]], 4)
    advantages = advantages_of(rollouts, module.objective)
    telling = [g for g in range(4) if rollouts.mixed()[g]]
    assert telling
    found = slopes_of(module, rollouts, advantages, telling)
    centred = rollouts.rewards - rollouts.rewards.mean(dim=1, keepdim=True)
    score = torch.zeros(())
    for row, scored in enumerate(naive_rollout_scores(policy, rollouts, 1.0)):
        score = score + centred.flatten()[row] * scored.log_probs.sum()
    count = 16 if aggregate == "token_sum" else int(rollouts.answers.text.mask.sum())
    truth = torch.autograd.grad(-score / count, list(policy.model.parameters()))
    assert gradient_gap(found, truth) < 1e-5


def test_leaving_out_groups_without_variance_changes_no_gradient() -> None:
    policy = make_policy(twin("gpt2"), MASK)
    module = module_of(policy)
    rollouts = rolled(policy, [LAYOUT.prompt(item) for item in ITEMS[:5]], 4)
    flat = rollouts.rewards.clone()
    flat[1], flat[3] = 1.0, 0.0
    flat[[0, 2, 4]] = torch.tensor([1.0, 0.0, 0.0, 1.0])
    rollouts = replace(rollouts, rewards=flat)
    advantages = advantages_of(rollouts, module.objective)
    every = slopes_of(module, rollouts, advantages, range(5))
    telling = slopes_of(module, rollouts, advantages, [0, 2, 4])
    assert max(gap(a, b) for a, b in zip(every, telling, strict=True)) <= 1e-7
    assert max(float(slope.abs().max()) for slope in every) > 1e-2


@pytest.mark.parametrize("broken", [0, 3], ids=["first", "last"])
def test_a_gap_that_is_no_number_stops_the_run(broken: int) -> None:
    """One micro-batch of four, wherever it stands, whatever the gaps of the others."""
    policy = make_policy(twin("gpt2"), MASK)
    module: Any = module_of(policy, micro_batch=4)
    module.manual_backward = lambda loss: loss.backward()
    module.optimizers, module.full_precision = Still, lambda: True
    rollouts = rolled(policy, [LAYOUT.prompt(item) for item in ITEMS[:4]], 4)
    advantages = torch.ones(4, 4, rollouts.answers.text.ids.shape[1])
    module.inner_update(rollouts, advantages, range(4), [])
    rollouts.answers.log_probs[4 * broken, 0] = float("nan")
    with pytest.raises(RuntimeError, match="replay differs from the rollout by nan"):
        module.inner_update(rollouts, advantages, range(4), [])


@dataclass
class BrokenAt:
    """The clipped surrogate, whose loss is no number at some calls."""

    calls: tuple[int, ...]
    seen: int = 0

    def __call__(self, batch: LossInput) -> LossOutput:
        output = Clipped()(batch)
        self.seen += 1
        return (
            replace(output, loss=output.loss * float("nan")) if self.seen in self.calls else output
        )


@pytest.mark.parametrize("inner", [1, 2])
def test_a_step_that_is_not_taken_leaves_a_trace(
    tmp_path: Path, inner: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The first of three updates moves nothing, not even in a second pass; the curves, the log and
    the checkpoint say so, and the others are as ever."""
    policy = make_policy(twin("gpt2"), MASK)
    objective = objective_of(policy_loss=BrokenAt((1,)), reward=lambda text, gold: len(text) % 2)
    module = module_of(policy, objective, inner_updates=inner, updates=3, lr=1e-6)
    before, kept = weights(module), module.configure_optimizers
    moved: list[bool] = []

    def watching() -> torch.optim.Optimizer:
        optimizer = kept()
        optimizer.register_step_post_hook(lambda *_: moved.append(True))
        return optimizer

    plain: Any = module
    plain.configure_optimizers = watching
    fitted(tmp_path, module)
    assert [curve["train/skipped_updates"] for curve in module.curves] == [1, 1, 1]
    norms = [curve["train/grad_norm"] for curve in module.curves]
    assert norms[0] != norms[0] and all(norm > 0 for norm in norms[1:])
    assert caplog.text.count("rl update 0: its gradient is not finite; skipped") == 1
    assert len(moved) == 2 * inner
    assert as_bytes(before) != as_bytes(weights(module))
    saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert saved["latentbench"]["skipped_updates"] == 1


def test_only_telling_groups_are_replayed() -> None:
    policy = make_policy(twin("gpt2"), MASK)
    module: Any = module_of(policy)
    rollouts = rolled(policy, [LAYOUT.prompt(item) for item in ITEMS[:4]], 4)
    rewards = torch.tensor([[0.0] * 4, [1, 0, 0, 0], [1] * 4, [1, 1, 0, 0]])
    rollouts = replace(rollouts, rewards=rewards)
    seen: list[Any] = []
    module.inner_update = lambda _r, _a, telling, _o: seen.append(list(telling)) or {}
    module.learn(rollouts, advantages_of(rollouts, module.objective))
    assert seen == [[1, 3]] and module.silent_updates == 0


def test_advantages_see_the_cuts_of_the_whole_batch() -> None:
    """Transforms come after the estimator: a cut answer counts in the mean and is zeroed after."""
    policy = make_policy(twin("gpt2"))
    rollouts = rolled(policy, [LAYOUT.prompt(item) for item in ITEMS[:3]], 4, budget=3)
    seen: list[Groups] = []

    @dataclass(frozen=True)
    class Spy:
        def __call__(self, groups: Groups) -> torch.Tensor:
            seen.append(groups)
            return Mean()(groups)

    module = module_of(policy, objective_of(advantage=Spy(), transforms=(InvalidMask(),)))
    found = advantages_of(rollouts, module.objective)
    cut = rollouts.answers.truncated.reshape(3, 4)
    assert cut.any() and not cut.all()
    assert torch.equal(seen[0].truncated, cut)
    centred = rollouts.rewards - rollouts.rewards.mean(dim=1, keepdim=True)
    for position in range(found.shape[-1]):
        assert torch.equal(found[..., position], centred * ~cut)


# -- whole updates --------------------------------------------------------------------------------


def test_deterministic_rollouts_change_no_weight(tmp_path: Path) -> None:
    """No noise and greedy answers: gradient 0, so nothing moves, weight decay included."""
    policy = make_policy(twin("gpt2"))
    before = as_bytes([value for value in policy.model.state_dict().values()])
    module = module_of(policy, answer=AnswerConfig(0.0, 5), updates=3, weight_decay=0.1)
    fitted(tmp_path, module)
    assert as_bytes(weights(module)) == before
    assert module.silent_updates == 3 and module.update == 3
    for curve in module.curves:
        assert curve["train/zero_variance_groups"] == 1.0
        assert curve["latent/dispersion"] == 0.0
        assert curve["train/loss"] == curve["train/grad_norm"] == 0.0
    assert module.curves[-1]["train/silent_updates"] == 3


def test_updates_are_adamw_on_the_naive_gradient(tmp_path: Path) -> None:
    """Two real updates against torch's AdamW on gradients computed the plain way, clipped."""
    policy = make_policy(twin("gpt2"), MASK)
    other = make_policy(copy.deepcopy(policy.model), MASK)
    module = fitted(tmp_path, module_of(policy, lr=1e-4, weight_decay=0.1, grad_clip=0.5))
    optimizer = torch.optim.AdamW(other.model.parameters(), lr=1e-4, weight_decay=0.1)
    for update, rollouts in enumerate(module.seen):
        optimizer.zero_grad()
        own = rolled(other, rollouts.prompts, 4, budget=5, step=update)
        assert torch.equal(own.answers.text.ids, rollouts.answers.text.ids)
        centred = own.rewards - own.rewards.mean(dim=1, keepdim=True)
        scored = naive_rollout_scores(other, own, 1.0)
        pairs = zip(centred.flatten(), scored, strict=True)
        loss = -sum((a * s.log_probs.sum() for a, s in pairs), torch.zeros(())) / 16
        loss.backward()
        norm = torch.stack([p.grad.square().sum() for p in other.model.parameters()]).sum().sqrt()
        assert norm > 0.5
        assert abs(module.curves[update]["train/grad_norm"] / norm.item() - 1) < 1e-4
        for parameter in other.model.parameters():
            parameter.grad *= 0.5 / norm
        optimizer.step()
    # Where the true slope is 0 (key biases), Adam turns rounding into steps of up to lr.
    moved = zip(module.model.named_parameters(), other.model.parameters(), strict=True)
    for (name, one), two in moved:
        keys = slice(32, 64) if name.endswith("c_attn.bias") else slice(0, 0)
        difference = (one - two).detach().abs()
        assert difference[keys].numel() == 0 or float(difference[keys].max()) <= 4e-4
        difference[keys] = 0.0
        assert float(difference.max()) < 1e-5


@pytest.mark.parametrize("noise", [None_(), MASK], ids=["none", "shared_mask"])
def test_micro_batches_change_neither_rollouts_nor_weights(tmp_path: Path, noise: Any) -> None:
    """One group at a time, or all at once; epsilon keeps Adam from amplifying rounding."""
    runs = []
    for size in (4, 1024):
        module = module_of(make_policy(twin("gpt2"), noise), micro_batch=size, lr=1e-3)
        plain: Any = module
        plain.configure_optimizers = lambda m=module: torch.optim.AdamW(
            m.model.parameters(), lr=1e-3, eps=1e-3
        )
        runs.append(fitted(tmp_path / str(size), module))
    one, other = runs
    for a, b in zip(one.seen, other.seen, strict=True):
        assert torch.equal(a.answers.text.ids, b.answers.text.ids) and a.texts == b.texts
        assert all(torch.equal(a.noise.tensors[s], b.noise.tensors[s]) for s in a.noise.tensors)
    assert as_bytes(weights(one)) != as_bytes(weights(module_of(make_policy(twin("gpt2")))))
    pairs = zip(weights(one), weights(other), strict=True)
    assert max(gap(a, b) for a, b in pairs) <= 1e-6


@dataclass(frozen=True)
class SpyLoss:
    """The clipped surrogate, with a note of what it was given."""

    seen: list[LossInput] = field(default_factory=list)

    def __call__(self, batch: LossInput) -> LossOutput:
        self.seen.append(replace(batch, log_probs=batch.log_probs.detach().clone()))
        return Clipped()(batch)


def test_inner_updates_score_against_the_first_replay(tmp_path: Path) -> None:
    """The first ratio is exactly 1; the second is the new policy's over the stored old one."""
    spy = SpyLoss()
    policy = make_policy(twin("gpt2"), MASK)
    objective = objective_of(policy_loss=spy)
    module = module_of(policy, objective, inner_updates=2, micro_batch=8, lr=1e-6)
    fitted(tmp_path, module)
    assert len(spy.seen) % 2 == 0 and len(spy.seen) >= 4
    place = 0
    for rollouts in module.seen:
        telling = int(rollouts.mixed().sum())
        parts = -(-telling // 2)
        first, second = spy.seen[place : place + parts], spy.seen[place + parts :][:parts]
        place += 2 * parts
        for before, after in zip(first, second, strict=True):
            assert torch.equal(before.log_probs, before.old_log_probs)
            assert torch.equal(after.old_log_probs, before.old_log_probs)
            assert 1e-4 < gap(after.log_probs, after.old_log_probs) < 1e-2
            assert torch.equal(after.mask, before.mask)
            assert torch.equal(after.advantages, before.advantages)
            assert before.total_rows == 16
            assert before.total_tokens == int(rollouts.answers.text.mask.sum())
    assert place == len(spy.seen)
    assert module.curves[-1]["train/replay_gap"] < 1e-5


def test_inner_updates_may_move_the_policy(tmp_path: Path) -> None:
    """The guard against a wrong replay is about the first replay; the second has learnt."""
    module = module_of(make_policy(twin("gpt2"), MASK), inner_updates=2, lr=1e-3)
    assert fitted(tmp_path, module).update == 2


def synthetic(rewards: Sequence[Sequence[float]]) -> Rollouts:
    """Groups whose every row carries its own number."""
    values = torch.tensor(rewards)
    prompts = tuple(LAYOUT.prompt(item) for item in ITEMS[: len(values)])
    rows = torch.arange(values.numel())
    ids = rows[:, None].expand(-1, 2).clone()
    answers = Answers(Text(ids, torch.ones_like(ids)), ids.float(), ids.float(), rows % 3 == 0)
    noise = NoiseRecord({"mlp.0": rows[:, None, None].float()})
    texts = tuple(map(str, rows.tolist()))
    thoughts = Thoughts(rows[:, None, None].float(), rows[:, None, None].float())
    last = rows[:, None].float()
    return Rollouts(prompts, values.shape[1], noise, thoughts, last, answers, texts, values)


def test_the_first_mixed_groups_are_kept_in_order() -> None:
    """Spare groups make up for flat ones; rows, records and rewards stay together."""
    rewards = [[0, 0, 0], [1, 0, 0], [1, 1, 1], [0, 0, 1], [0, 1, 1], [0, 1, 0]]
    whole = synthetic([[float(r) for r in row] for row in rewards])
    kept = kept_groups(whole, "mixed", 3)
    rows = [3, 4, 5, 9, 10, 11, 12, 13, 14]
    assert kept.prompts == tuple(whole.prompts[g] for g in (1, 3, 4))
    assert kept.rewards.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 1]]
    assert kept.texts == tuple(map(str, rows))
    assert kept.answers.text.ids[:, 0].tolist() == rows
    assert kept.answers.log_probs[:, 1].tolist() == rows
    assert kept.answers.truncated.tolist() == [row % 3 == 0 for row in rows]
    assert kept.noise.tensors["mlp.0"].flatten().tolist() == rows
    assert kept.last.flatten().tolist() == rows
    scarce = kept_groups(synthetic([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), "mixed", 3)
    assert scarce.prompts == (whole.prompts[1],) and scarce.group_size == 2
    everything = kept_groups(whole, "all", 3)
    assert everything.rewards.tolist() == whole.rewards.tolist()


@pytest.mark.parametrize("keep", ["all", "mixed"])
def test_a_batch_without_any_mixed_group_is_a_silent_update(tmp_path: Path, keep: str) -> None:
    policy = make_policy(twin("gpt2"), MASK)
    before = as_bytes(list(policy.model.state_dict().values()))
    objective = objective_of(reward=lambda text, gold: 1.0)
    over = 2 if keep == "mixed" else 1
    module = fitted(tmp_path, module_of(policy, objective, keep=keep, over_provision=over))
    assert module.silent_updates == 2 and as_bytes(weights(module)) == before


@pytest.mark.parametrize("advantage", [Mean(), MeanStd(eps=0.0)], ids=["mean", "mean_std"])
def test_spare_groups_are_drawn_and_counted(tmp_path: Path, advantage: Any) -> None:
    objective = objective_of(advantage=advantage)
    policy = make_policy(twin("gpt2"), MASK)
    module = module_of(policy, objective, keep="mixed", over_provision=2, prompts=3)
    fitted(tmp_path, module)
    for rollouts, curve in zip(module.seen, module.curves, strict=True):
        assert len(rollouts.prompts) == 6
        mixed = int(rollouts.mixed().sum())
        assert curve["train/groups_kept"] == min(mixed, 3)
        assert abs(curve["train/zero_variance_groups"] - (1 - mixed / 6)) < 1e-6
        assert abs(curve["train/reward_mean"] - float(rollouts.rewards.mean())) < 1e-6
        assert curve["train/replay_gap"] < 1e-5


def test_a_policy_stays_in_eval_mode(tmp_path: Path) -> None:
    """Also where it came in train mode with dropout of its own, and Lightning asks for it."""
    modes: set[bool] = set()
    policy = make_policy(twin("gpt2").train(), MASK)
    module = module_of(policy)

    def spying(text: str, gold: str) -> float:
        modes.update(part.training for part in module.model.modules())
        return parity(text, gold)

    module.objective = replace(module.objective, reward=spying)
    module.train()
    assert not any(part.training for part in module.modules())
    fitted(tmp_path, module)
    assert modes == {False}
    assert not any(part.training for part in module.modules())


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    runs = [
        fitted(tmp_path / name, module_of(make_policy(twin("gpt2"), MASK), seed=seed))
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    ]
    one, same, other = runs
    assert as_bytes(weights(one)) == as_bytes(weights(same))
    assert [r.texts for r in one.seen] == [r.texts for r in same.seen]
    assert as_bytes(weights(one)) != as_bytes(weights(other))
    assert [r.prompts for r in one.seen] != [r.prompts for r in other.seen]
    assert one.seen[0].texts != one.seen[1].texts
    timed = {name for name in one.curves[0] if name.startswith("perf/")}
    for a, b in zip(one.curves, same.curves, strict=True):
        assert {k: v for k, v in a.items() if k not in timed} == {
            k: v for k, v in b.items() if k not in timed
        }


def test_the_penalty_adds_its_gradient_to_that_of_the_surrogate() -> None:
    """kl/tokens times the gradient of the summed k3, the reference constant, under one mask."""
    policy, reference = (make_policy(twin("gpt2", seed=seed), MASK) for seed in (0, 1))
    module = module_of(policy, reference=reference, kl=3.0)
    rollouts = rolled(policy, [LAYOUT.prompt(item) for item in ITEMS[:4]], 4)
    rollouts = replace(rollouts, rewards=torch.eye(4))  # every group has two rewards
    found = slopes_of(module, rollouts, advantages_of(rollouts, module.objective), range(4))
    centred = rollouts.rewards - rollouts.rewards.mean(dim=1, keepdim=True)
    loss, tokens = torch.zeros(()), int(rollouts.answers.text.mask.sum())
    mine, other = (naive_rollout_scores(p, rollouts, 1.0) for p in (policy, reference))
    for advantage, one, two in zip(centred.flatten(), mine, other, strict=True):
        difference = two.log_probs.detach() - one.log_probs
        assert difference.abs().max() < 10
        loss = loss - advantage * one.log_probs.sum() / 16
        loss = loss + 3.0 * (difference.exp() - difference - 1).sum() / tokens
    truth = torch.autograd.grad(loss, list(policy.model.parameters()))
    assert gradient_gap(found, truth) < 1e-5
    assert all(parameter.grad is None for parameter in reference.model.parameters())


def test_groups_without_variance_keep_their_penalty() -> None:
    """Leaving them out changes nothing only where there is no penalty."""
    policy, reference = (make_policy(twin("gpt2", seed=seed), MASK) for seed in (0, 1))
    module: Any = module_of(policy, reference=reference, kl=3.0)
    rollouts = rolled(policy, [LAYOUT.prompt(item) for item in ITEMS[:4]], 4)
    rewards = rollouts.rewards.clone()
    rewards[[1, 2]] = 1.0
    rollouts = replace(rollouts, rewards=rewards)
    advantages = advantages_of(rollouts, module.objective)
    every = slopes_of(module, rollouts, advantages, range(4))
    module.model.zero_grad(set_to_none=True)
    module.learn(rollouts, advantages)
    found = [parameter.grad for parameter in module.model.parameters()]
    assert gradient_gap(found, every) < 1e-5


@dataclass(frozen=True)
class Flipped:
    """The mean-only advantage with the wrong sign."""

    def __call__(self, groups: Groups) -> torch.Tensor:
        return -Mean()(groups)


@pytest.mark.parametrize("noise", [None_(), MASK, PerStepMask(rate=0.2)], ids=lambda n: repr(n)[:8])
def test_the_right_sign_learns_and_the_wrong_one_unlearns(tmp_path: Path, noise: Any) -> None:
    """A reward for answers that begin with 3 goes up, and down under a flipped advantage."""

    def begins(text: str, gold: str) -> float:
        return float(text.startswith("3"))

    rewards = {}
    for advantage in (Mean(), Flipped()):
        policy = make_policy(twin("gpt2"), noise)
        module = module_of(
            policy,
            objective_of(reward=begins, advantage=advantage),
            answer=AnswerConfig(1.0, 1),
            updates=25,
            prompts=8,
            group_size=8,
            lr=3e-3,
        )
        fitted(tmp_path / type(advantage).__name__, module)
        rewards[type(advantage)] = [curve["train/reward_mean"] for curve in module.curves]
    start = rewards[Mean][0]
    assert start == rewards[Flipped][0] and 0.02 < start < 0.5
    assert sum(rewards[Mean][-5:]) / 5 > 0.9
    assert sum(rewards[Flipped][-5:]) / 5 < min(0.05, start)


def test_a_second_inner_update_sees_the_new_weights_under_autocast() -> None:
    """Autocast keeps casts of the weights until its block ends: a step must drop them, or the next
    replay inside the same block scores with the weights of before."""
    model = twin("gpt2")
    prompts = collate_prompts(make_prompts(2), 0)
    policy = make_policy(model, None_())
    digits = LAYOUT.tokenizer("12")["input_ids"]
    text = Text(torch.tensor([digits, digits]), torch.ones(2, 2, dtype=torch.long))

    def scores() -> torch.Tensor:
        return policy.replay(prompts, NoiseRecord(), text, 1).log_probs.detach()

    def step() -> None:
        with torch.no_grad():
            for parameter in model.base_model.h.parameters():
                parameter.mul_(3.0)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = scores()
        optimizer = SimpleNamespace(step=step)
        module = module_of(policy)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        module.take_step(optimizer, 0.0)
        inside = scores()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outside = scores()
    assert not torch.equal(before, outside), "the step must matter"
    assert torch.equal(inside, outside)
