"""Rollouts per second, side by side in one process: what sharing the prompt and caching are worth.

    python -m benchmarks.rollouts                       # the embedded default's shape
    python -m benchmarks.rollouts --shape gpt2 --questions <GSM8K test.jsonl.gz>

Weights are random: speed does not depend on them, except through the length of answers, which is
held at `--answer-tokens` for every arm. Machines are shared and noisy: read the ratios. The arms
are interleaved, and a figure is the median over rounds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from latentbench.carrier.hidden import Hidden
from latentbench.keys import Purpose, rollout_keys
from latentbench.model.policy import Decoding, Policy
from latentbench.noise.none import None_
from latentbench.noise.shared_mask import SharedMask
from latentbench.records import Prompt, collate_prompts

SHAPES = {
    "tiny": {"n_layer": 3, "n_embd": 64, "n_head": 4, "vocab_size": 102, "n_positions": 256},
    "gpt2": {"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50260, "n_positions": 1024},
}
NEVER = -1  # no token has this id, so no answer ends early


def main() -> None:
    """Print one Markdown table."""
    options = arguments()
    torch.manual_seed(0)
    model = random_model(SHAPES[options.shape]).to(options.device)
    prompts = read_prompts(options, SHAPES[options.shape]["vocab_size"])
    policy = Policy(model, Hidden(), None_(), options.latents, NEVER)
    arms = {
        "one rollout at a time, no cache": lambda: uncached(policy, prompts, options),
        "batched, cached, prompt per rollout": lambda: batched(policy, prompts, options, "all"),
        "batched, cached, prompt shared": lambda: batched(policy, prompts, options, "latent"),
        "batched, cached, thoughts shared": lambda: batched(policy, prompts, options, "none"),
    }
    if options.skip_uncached:
        del arms["one rollout at a time, no cache"]
    report(options, prompts, measure(arms, options.rounds))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--questions", type=Path, help="GSM8K test file, for its prompt lengths")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--latents", type=int, default=None)
    parser.add_argument("--answer-tokens", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--skip-uncached", action="store_true")
    options = parser.parse_args()
    tiny = options.shape == "tiny"
    options.latents = options.latents or (3 if tiny else 6)
    options.answer_tokens = options.answer_tokens or (3 if tiny else 8)
    return options


def random_model(shape: dict[str, int]) -> torch.nn.Module:
    """A GPT-2-shaped model with random weights, in eval mode."""
    last = shape["vocab_size"] - 1
    config = AutoConfig.for_model("gpt2", **shape, bos_token_id=last, eos_token_id=last)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def read_prompts(options: argparse.Namespace, vocabulary: int) -> list[Prompt]:
    """Prompts of the lengths in `--questions` (4 characters a token), else of 8 to 10 tokens."""
    if options.questions is None:
        lengths = [8 + index % 3 for index in range(options.prompts)]
    else:
        with gzip.open(options.questions, "rt", encoding="utf-8") as stream:
            questions = [json.loads(line)["question"] for line in stream]
        lengths = sorted(len(question) // 4 for question in questions[: options.prompts])
    generator = torch.Generator().manual_seed(0)
    return [
        Prompt(uid, tuple(torch.randint(vocabulary, (n,), generator=generator).tolist()), 0)
        for uid, n in enumerate(lengths)
    ]


@torch.no_grad()
def batched(
    policy: Policy, prompts: Sequence[Prompt], options: argparse.Namespace, scope: str
) -> int:
    """All rollouts at once under a shared mask of that scope, or under none; greedy answers."""
    noise = None_() if scope == "none" else SharedMask(rate=0.1, scope=scope)
    policy = replace(policy, noise=noise)
    batch = collate_prompts(prompts, 0, policy.device)
    keys = rollout_keys(0, Purpose.NOISE, 0, batch.uids, options.group_size)
    record = noise.draw(keys, policy.sites(), policy.latents).to(policy.device)
    state, _ = policy.latent_phase(batch, record, options.group_size)
    cue = batch.cue.repeat_interleave(options.group_size)
    policy.decode(state, cue, record, Decoding(0.0, options.answer_tokens))
    return len(keys)


@torch.no_grad()
def uncached(policy: Policy, prompts: Sequence[Prompt], options: argparse.Namespace) -> int:
    """The naive loop: one rollout of one prompt, every step a forward over all that came before."""
    table = policy.model.get_input_embeddings()
    for prompt in prompts[:2]:
        vectors = table(torch.tensor([prompt.ids], device=policy.device))
        for _ in range(options.latents):
            hidden = policy.model.base_model(inputs_embeds=vectors).last_hidden_state
            vectors = torch.cat([vectors, hidden[:, -1:]], dim=1)
        token = torch.tensor([[prompt.cue]], device=policy.device)
        for _ in range(options.answer_tokens):
            vectors = torch.cat([vectors, table(token)], dim=1)
            hidden = policy.model.base_model(inputs_embeds=vectors).last_hidden_state
            token = policy.log_law(hidden[:, -1]).argmax(dim=-1, keepdim=True)
    return len(prompts[:2])


def measure(arms: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Median rollouts per second of every arm over interleaved rounds, after one warm-up each."""
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds + 1):
        for name, arm in arms.items():
            started = time.perf_counter()
            rollouts = arm()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                rates[name].append(rollouts / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


def report(options: argparse.Namespace, prompts: Sequence[Prompt], rates: dict[str, float]) -> None:
    slowest = min(rates.values())
    mean = statistics.mean(len(prompt.ids) for prompt in prompts)
    print(
        f"{options.shape} on {options.device}, {torch.get_num_threads()} threads: {len(prompts)} "
        f"prompts of {mean:.0f} tokens, K = {options.group_size}, {options.latents} latents, "
        f"{options.answer_tokens} answer tokens\n"
    )
    print("| arm | rollouts/s | ratio |\n| --- | ---: | ---: |")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.1f} | {rate / slowest:.1f} |")


if __name__ == "__main__":
    main()
