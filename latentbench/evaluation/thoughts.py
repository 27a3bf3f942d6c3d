"""A look at the latents of a few items: where each thought lies and what it would say.

The rows of latents.parquet: groups of rollouts under the run's own noise and sampling, for figures
and for reading, never for a score.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from latentbench.evaluation.benchmark import Benchmark
from latentbench.keys import Purpose, rollout_keys, uniforms
from latentbench.layout import Layout
from latentbench.policy import Decoding, Policy
from latentbench.records import collate_prompts
from latentbench.rollout import answer_texts

TOP = 5


@torch.no_grad()
def look_at_thoughts(
    policy: Policy,
    benchmark: Benchmark,
    layout: Layout,
    reward: Any,
    decoding: Decoding,
    stage: str,
    items: int,
    rollouts: int,
    seed: int,
) -> pd.DataFrame:
    """One row per rollout and latent step of the first `items` items.

    `vector` is the thought, the input vector of its slot; `top_tokens` is what the LM head reads in
    it.
    """
    prompts = benchmark.prompts[:items]
    batch = collate_prompts(prompts, layout.markers.pad, policy.device)
    noise_keys = rollout_keys(seed, Purpose.TEST_NOISE, 0, batch.uids, rollouts)
    record = policy.noise.draw(noise_keys, policy.sites(), policy.latents).to(policy.device)
    state, thought = policy.latent_phase(batch, record, rollouts)
    thoughts = thought.vectors
    draws = None
    if decoding.temperature > 0:
        answer_keys = rollout_keys(seed, Purpose.TEST_ANSWER, 0, batch.uids, rollouts)
        draws = torch.from_numpy(uniforms(answer_keys, decoding.budget)).to(policy.device)
    cue = batch.cue.repeat_interleave(rollouts)
    texts = answer_texts(policy.decode(state, cue, record, decoding, draws).text, layout)
    likely = policy.log_law(thoughts).exp().topk(TOP, dim=-1)
    rows = []
    for row, text in enumerate(texts):
        prompt = prompts[row // rollouts]
        for step in range(policy.latents):
            rows.append(
                {
                    "benchmark": benchmark.name,
                    "item": f"{prompt.uid:016x}",
                    "stage": stage,
                    "rollout": row % rollouts,
                    "latent_step": step + 1,
                    "vector": thoughts[row, step].float().cpu().numpy(),
                    "correct": bool(reward(text, prompt.gold) == 1.0),
                    "top_tokens": [
                        layout.tokenizer.decode([token])
                        for token in likely.indices[row, step].tolist()
                    ],
                    "top_probs": likely.values[row, step].float().cpu().numpy(),
                }
            )
    return pd.DataFrame(rows)
