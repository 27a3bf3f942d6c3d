"""A look at the latents of a few items: where each thought lies and what it would say.

The rows of latents.parquet: groups of rollouts under the run's own noise and sampling, for figures
and for reading, never for a score.
"""

from __future__ import annotations

import pandas as pd
import torch

from latentbench.evaluation.benchmark import Examination, item_name
from latentbench.keys import Purpose, rollout_keys, uniforms
from latentbench.model.policy import Decoding
from latentbench.records import collate_prompts
from latentbench.training.rollout import answer_texts

TOP = 5


@torch.no_grad()
def look_at_thoughts(
    examination: Examination, decoding: Decoding, forced: torch.Tensor | None
) -> pd.DataFrame:
    """One row per rollout and latent step of the first `protocol.thought_items` items.

    `vector` is the thought, the input vector of its slot; `top_tokens` is what the LM head reads in
    it. Under an intervention both are of what stands in the slot.
    """
    policy, layout = examination.policy, examination.layout
    protocol, reward = examination.protocol, examination.benchmark.reward
    rollouts, seed = protocol.samples, protocol.seed
    prompts = examination.benchmark.prompts[: protocol.thought_items]
    batch = collate_prompts(prompts, layout.markers.pad, policy.device)
    if forced is not None:
        forced = forced[: len(prompts)].repeat_interleave(rollouts, dim=0).to(policy.device)
    noise_keys = rollout_keys(seed, Purpose.TEST_NOISE, 0, batch.uids, rollouts)
    record = policy.noise.draw(noise_keys, policy.sites(), policy.latents).to(policy.device)
    state, phase = policy.latent_phase(batch, record, rollouts, forced)
    thoughts = phase.vectors
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
                    "benchmark": examination.benchmark.name,
                    "item": item_name(prompt),
                    "stage": examination.stage,
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
