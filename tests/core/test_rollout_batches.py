"""How rollouts are batched: in chunks of whole groups that fit, graded by their own gold answers,
and the same record whatever the cut."""

from __future__ import annotations

import pytest
import torch
from checks import LAYOUT, make_policy, make_prompts, rolled, twin
from plain import policy_with

from latentbench.carrier.mixture import Mixture
from latentbench.model.policy import Policy
from latentbench.noise.gumbel import Gumbel
from latentbench.noise.shared_mask import SharedMask
from latentbench.records import Rollouts


def mixing() -> Policy:
    return policy_with(twin("gpt2"), Mixture(k=4), Gumbel(top_k=6))


def test_each_rollout_is_graded_by_the_gold_of_its_prompt() -> None:
    prompts = make_prompts(4)
    seen: list[tuple[str, str]] = []

    def grading(text: str, gold: str) -> float:
        seen.append((text, gold))
        return float(gold)

    rollouts = rolled(make_policy(twin("gpt2")), prompts, 3, max_rows=6, reward=grading)
    assert seen == [(t, prompts[row // 3].gold) for row, t in enumerate(rollouts.texts)]
    assert rollouts.rewards.tolist() == [[float(prompt.gold)] * 3 for prompt in prompts]


@pytest.mark.parametrize(
    ("max_rows", "expected"),
    [(1024, [15]), (9, [9, 6]), (8, [6, 6, 3]), (3, [3] * 5), (1, [3] * 5)],
)
def test_no_more_rows_at_once_than_allowed(
    max_rows: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole groups, so that a group larger than that runs alone."""
    rows: list[int] = []
    original = Policy.decode

    def decode(self: Policy, state: object, cue: torch.Tensor, *rest: object) -> object:
        rows.append(len(cue))
        return original(self, state, cue, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Policy, "decode", decode)
    rolled(make_policy(twin("gpt2")), make_prompts(5), 3, max_rows=max_rows)
    assert rows == expected


def tensors(rollouts: Rollouts) -> dict[str, torch.Tensor]:
    """All that a record holds, padding included."""
    answers, thoughts = rollouts.answers, rollouts.thoughts
    found = {"ids": answers.text.ids, "mask": answers.text.mask, "log_probs": answers.log_probs}
    found |= {"truncated": answers.truncated, "last": rollouts.last, "rewards": rollouts.rewards}
    found |= {"vectors": thoughts.vectors, "sources": thoughts.sources}
    found |= {f"choice/{name}": value for name, value in thoughts.choice.items()}
    return found | {f"noise/{name}": value for name, value in rollouts.noise.tensors.items()}


@pytest.mark.parametrize("max_rows", [3, 6])
@pytest.mark.parametrize("kind", ["mask", "mixture"])
def test_chunks_join_to_the_record_of_one_batch(kind: str, max_rows: int) -> None:
    policy = mixing() if kind == "mixture" else make_policy(twin("gpt2"), SharedMask(rate=0.4))
    prompts = make_prompts(4)
    whole, joined = (rolled(policy, prompts, 3, budget=8, max_rows=n) for n in (1024, max_rows))
    assert joined.texts == whole.texts and joined.prompts == whole.prompts
    one, other = tensors(joined), tensors(whole)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.shape == other[name].shape, name
        if name == "choice/ids":  # ties in the tail may fall otherwise under another batch
            continue
        assert torch.allclose(value.double(), other[name].double(), atol=1e-5), name
    lengths = whole.answers.text.mask.sum(dim=1)
    assert int(lengths.max()) == whole.answers.text.ids.shape[1] > int(lengths.min())
    beyond = joined.answers.text.mask == 0
    assert (joined.answers.text.ids[beyond] == LAYOUT.markers.eos).all()
    assert (joined.answers.log_probs[beyond] == 0).all()


def test_no_rollout_has_a_gradient() -> None:
    rollouts = rolled(mixing(), make_prompts(2))
    assert not any(value.requires_grad for value in tensors(rollouts).values())
