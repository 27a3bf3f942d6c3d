"""Every draw of an evaluation comes from streams of its own, named by the protocol's seed, the item
and the sample: never from those of training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from checks import FORBIDDEN, LAYOUT, gap, make_policy, make_prompts, philox, twin

from latentbench.config.sections import ProtocolConfig
from latentbench.evaluation.benchmark import Benchmark, Examination, _described, in_order, item_name
from latentbench.model.policy import Decoding, Policy
from latentbench.noise.shared_mask import SharedMask
from latentbench.records import NoiseRecord, Prompt, collate_prompts
from latentbench.reward import Reward

BUDGET, SAMPLES, SEED = 4, 3, 11
TEST_NOISE, TEST_ANSWER = 7, 8
F64 = torch.float64
RATE = 0.5


class Half(Reward):
    """Half right for an answer that begins with a small digit, right for 6."""

    def extract(self, text: str) -> str | None:
        return text[:1] or None

    def __call__(self, text: str, gold: str) -> float:
        return {"": 0.0, "6": 1.0}.get(text[:1], 0.5)


def examination(policy: Policy, **changes: Any) -> Examination:
    protocol = replace(ProtocolConfig(samples=SAMPLES, ks=[1], seed=SEED), **changes)
    tests = Benchmark("b", tuple(make_prompts(4)), tuple("abcd"), Half(), ("half", {}))
    return Examination(policy, tests, LAYOUT, protocol, BUDGET, "final")


def columns_of(policy: Policy, prompt: Prompt, gains: dict[str, torch.Tensor]) -> Any:
    """A row's hidden states [feature], one uncached forward at a time: call it with the vectors so
    far. The masks act on prompt and slots, and not on the answer."""
    model = policy.model
    sites = {"mlp.0": model.transformer.h[0].mlp.c_proj, "mlp.1": model.transformer.h[1].mlp.c_proj}

    def last(vectors: list[torch.Tensor], masked: int) -> torch.Tensor:
        handles = []
        for site, module in sites.items():
            if site in gains:
                factor = torch.ones(len(vectors), 32, dtype=F64)
                factor[:masked] = gains[site]
                handles.append(module.register_forward_hook(lambda _m, _i, out, f=factor: out * f))
        with torch.no_grad():
            output = model.base_model(inputs_embeds=torch.stack(vectors)[None], use_cache=False)
        for handle in handles:
            handle.remove()
        return output.last_hidden_state[0, -1]

    return last


def answer_of(
    policy: Policy,
    prompt: Prompt,
    gains: dict[str, torch.Tensor],
    uniforms: np.ndarray | None,
    temperature: float,
) -> str:
    """The text that these masks and uniform numbers give; the most probable one without numbers."""
    table = policy.model.get_input_embeddings().weight.detach()
    last = columns_of(policy, prompt, gains)
    vectors = [table[token] for token in prompt.ids]
    for _ in range(policy.latents):
        vectors.append(last(vectors, len(vectors)))
    masked, token, written = len(vectors), prompt.cue, []
    for step in range(BUDGET):
        vectors.append(table[token])
        logits = last(vectors, masked) @ policy.model.get_output_embeddings().weight.detach().T
        logits[list(FORBIDDEN)] = float("-inf")
        if uniforms is None:
            token = int(logits.argmax())
        else:
            law = (logits / temperature).softmax(dim=-1).numpy()
            token = int(np.searchsorted(np.cumsum(law), uniforms[step], side="right"))
        written.append(token)
        if token == policy.eos:
            break
    return LAYOUT.decode(written)


def masks(uid: int, sample: int) -> dict[str, torch.Tensor]:
    """Bernoulli masks of both feed-forward branches, first block first, from the item's stream."""
    draws = philox(SEED, TEST_NOISE, 0, uid, sample).random((1, 64), dtype=np.float32)[0]
    gains = torch.from_numpy((draws >= np.float32(RATE)) / np.float32(1 - RATE)).to(F64)
    return {"mlp.0": gains[:32], "mlp.1": gains[32:]}


@pytest.mark.parametrize("explore", ["answer", "latent", "both"])
def test_samples_follow_the_streams_of_the_test(explore: str) -> None:
    policy = make_policy(twin("gpt2", dtype=F64), SharedMask(rate=RATE, sites=["mlp"]))
    own = examination(policy, explore=explore, temperature=0.8)
    rows = own.answer(range(4), None)
    seen = set()
    for prompt in own.benchmark.prompts:
        mine = rows[rows["item"] == item_name(prompt)]
        greedy = mine.loc[mine["decode"] == "greedy", "answer_text"].tolist()
        assert greedy == [answer_of(policy, prompt, {}, None, 1.0)]
        sampled = mine[mine["decode"] == "sampled"]
        assert sampled["sample"].tolist() == list(range(SAMPLES))
        for sample, text in enumerate(sampled["answer_text"]):
            gains = {} if explore == "answer" else masks(prompt.uid, sample)
            stream = philox(SEED, TEST_ANSWER, 0, prompt.uid, sample)
            uniforms = None if explore == "latent" else stream.random(BUDGET)
            assert text == answer_of(policy, prompt, gains, uniforms, 0.8)
            seen.add(text)
    assert len(seen) > 3, "draws must matter"


def test_a_half_right_answer_is_not_correct() -> None:
    own = examination(make_policy(twin("gpt2", dtype=F64)), temperature=1.5)
    rows = in_order(own.answer(range(4), None), own.benchmark)
    assert rows["correct"].tolist() == [text[:1] == "6" for text in rows["answer_text"]]
    assert (~rows["correct"]).sum() > 3


def test_each_sample_has_its_items_forced_thoughts() -> None:
    """Samples of an item at a vanishing temperature are its greedy answer under the same vectors,
    and the items' vectors differ."""
    policy = make_policy(twin("gpt2", dtype=F64), SharedMask(rate=0.0))
    own = examination(policy, explore="both", temperature=1e-6)
    forced = torch.randn(4, 3, 32, generator=torch.Generator().manual_seed(0)).double()
    rows = own.answer(range(4), forced)
    batch = collate_prompts(own.benchmark.prompts, LAYOUT.markers.pad)
    with torch.no_grad():
        state, _ = policy.latent_phase(batch, NoiseRecord(), 1, forced)
        other, _ = policy.latent_phase(batch, NoiseRecord(), 1, forced.flip(0))
        assert gap(state.hidden, other.hidden) > 1e-2
        plain = policy.decode(state, batch.cue, NoiseRecord(), Decoding(0.0, BUDGET))
    texts = [found["answer_text"] for found in _described(plain, LAYOUT)]
    for prompt, text in zip(own.benchmark.prompts, texts, strict=True):
        mine = rows.loc[rows["item"] == item_name(prompt), "answer_text"]
        assert mine.tolist() == [text] * (1 + SAMPLES)


def test_short_questions_are_answered_first() -> None:
    own = examination(make_policy(twin("gpt2")), batch_rows=2 * SAMPLES)
    plan = own.plan()
    lengths = [len(own.benchmark.prompts[place].ids) for part in plan for place in part]
    assert [len(part) for part in plan] == [2, 2] and lengths == sorted(lengths)
