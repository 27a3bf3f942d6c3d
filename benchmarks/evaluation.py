"""Items evaluated per second, side by side in one process: a greedy answer and n samples each.

    python -m benchmarks.evaluation                     # the embedded default's shape
    python -m benchmarks.evaluation --shape gpt2 --data <GSM8K files> --tokenizer <GPT-2's>

Weights are random: speed does not depend on them, except through the length of answers, which is
held at `--answer-tokens` for every arm. Machines are shared and noisy: read the ratios. The arms
are interleaved, and a figure is the median over rounds. The slow arms answer `--loop-items` items.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence

import torch

from benchmarks.rollouts import NEVER, SHAPES, measure, random_model
from latentbench.carrier.hidden import Hidden
from latentbench.config.sections import ProtocolConfig
from latentbench.data.arithmetic import Arithmetic
from latentbench.data.gsm8k import Gsm8k
from latentbench.evaluation.benchmark import Benchmark, Examination
from latentbench.model.layout import Layout
from latentbench.model.policy import Decoding, Policy
from latentbench.model.tokenizer import add_markers, load_tokenizer
from latentbench.noise.none import None_
from latentbench.records import NoiseRecord, Prompt, collate_prompts
from latentbench.reward.exact_number import ExactNumber
from latentbench.training.rollout import chunks


def main() -> None:
    """Print one Markdown table."""
    options = arguments()
    torch.manual_seed(0)
    examination = prepare(options)
    count = len(examination.benchmark.prompts)
    few = list(range(0, count, max(count // options.loop_items, 1)))[: options.loop_items]
    shuffled = torch.randperm(count).tolist()
    size = max(options.batch_rows // options.samples, 1)
    arms: dict[str, Callable[[], int]] = {
        "one answer at a time, no cache": lambda: uncached(examination, few, options),
        "one answer at a time, cached": lambda: one_by_one(examination, few, options),
        "batches in random order": lambda: batched(examination, list(chunks(shuffled, size))),
        "batches by length": lambda: batched(examination, examination.plan()),
    }
    report(options, examination, measure(arms, options.rounds))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--data", help="GSM8K files, for --shape gpt2")
    parser.add_argument("--tokenizer", help="GPT-2's tokenizer, for --shape gpt2")
    parser.add_argument("--items", type=int, default=128)
    parser.add_argument("--loop-items", type=int, default=2)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--batch-rows", type=int, default=512)
    parser.add_argument("--latents", type=int, default=None)
    parser.add_argument("--answer-tokens", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    tiny = options.shape == "tiny"
    options.latents = options.latents or (3 if tiny else 6)
    options.answer_tokens = options.answer_tokens or (3 if tiny else 8)
    if not tiny and not (options.data and options.tokenizer):
        parser.error("--shape gpt2 needs --data and --tokenizer")
    return options


def prepare(options: argparse.Namespace) -> Examination:
    """Real questions before a random model."""
    data = Arithmetic() if options.shape == "tiny" else Gsm8k(root=options.data)
    tokenizer = load_tokenizer(options.tokenizer or "character", None)
    layout = Layout(tokenizer, add_markers(tokenizer), data.template, True)
    prompts = tuple(layout.prompts(list(data.load().test)[: options.items]))
    model = random_model(SHAPES[options.shape] | {"vocab_size": len(tokenizer)})
    policy = Policy(model.to(options.device), Hidden(), None_(), options.latents, NEVER)
    benchmark = Benchmark(data.name, prompts, reward=ExactNumber())
    protocol = ProtocolConfig(samples=options.samples, batch_rows=options.batch_rows)
    return Examination(policy, benchmark, layout, protocol, options.answer_tokens, "final")


def batched(examination: Examination, plan: Sequence[Sequence[int]]) -> int:
    """The evaluation itself, grading and all."""
    return sum(len(examination.answer(chunk, None)) for chunk in plan) // (
        examination.protocol.samples + 1
    )


@torch.no_grad()
def one_by_one(examination: Examination, few: Sequence[int], options: argparse.Namespace) -> int:
    """Each answer by itself: prompt, thoughts and tokens of one row, with a cache."""
    policy, nothing = examination.policy, NoiseRecord()
    for place in few:
        batch = collate_prompts([examination.benchmark.prompts[place]], 0, policy.device)
        for _ in range(options.samples + 1):
            state, _ = policy.latent_phase(batch, nothing, 1)
            policy.decode(state, batch.cue, nothing, Decoding(0.0, options.answer_tokens))
    return len(few)


@torch.no_grad()
def uncached(examination: Examination, few: Sequence[int], options: argparse.Namespace) -> int:
    """Each answer by itself, every step a forward over all that came before; a share of an item's
    answers is timed, for all take the same."""
    policy = examination.policy
    table = policy.model.get_input_embeddings()
    prompt: Prompt = examination.benchmark.prompts[few[0]]
    vectors = table(torch.tensor([prompt.ids], device=policy.device))
    for _ in range(options.latents):
        hidden = policy.model.base_model(inputs_embeds=vectors, use_cache=False).last_hidden_state
        vectors = torch.cat([vectors, hidden[:, -1:]], dim=1)
    token = torch.tensor([[prompt.cue]], device=policy.device)
    for _ in range(options.answer_tokens):
        vectors = torch.cat([vectors, table(token)], dim=1)
        hidden = policy.model.base_model(inputs_embeds=vectors, use_cache=False).last_hidden_state
        token = policy.log_law(hidden[:, -1]).argmax(dim=-1, keepdim=True)
    return 1


def report(options: argparse.Namespace, examination: Examination, rates: dict[str, float]) -> None:
    rates["one answer at a time, no cache"] /= options.samples + 1
    slowest = min(rates.values())
    lengths = [len(prompt.ids) for prompt in examination.benchmark.prompts]
    print(
        f"{options.shape} on {options.device}, {torch.get_num_threads()} threads: {len(lengths)} "
        f"items of {examination.benchmark.name}, {statistics.mean(lengths):.0f} tokens in the mean "
        f"and {max(lengths)} at most, greedy and n = {options.samples}, {options.latents} latents, "
        f"{options.answer_tokens} answer tokens, {options.batch_rows} rows\n"
    )
    print("| arm | items/s | ratio |\n| --- | ---: | ---: |")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.2f} | {rate / slowest:.1f} |")


if __name__ == "__main__":
    main()
