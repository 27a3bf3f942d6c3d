"""Random twins of the model families, and the same quantities computed the slow and plain way.

The naive side never uses a cache, padding or batching: one row at a time, everything forwarded
again for every latent slot. The checks compare the package with it; tests and mutants share them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from latentbench.advantage.mean import Mean
from latentbench.carrier.hidden import Hidden
from latentbench.keys import Key, Purpose
from latentbench.model.layout import Layout
from latentbench.model.policy import Decoding, Policy
from latentbench.model.tokenizer import add_markers, character_tokenizer
from latentbench.noise import Site
from latentbench.noise.none import None_
from latentbench.noise.per_step_mask import PerStepMask
from latentbench.policy_loss.clipped import Clipped
from latentbench.records import (
    Groups,
    LossInput,
    NoiseRecord,
    Prompt,
    Replay,
    Rollouts,
    Template,
    Text,
    collate_prompts,
)
from latentbench.training.rollout import roll_out

FAMILIES = ("gpt2", "llama", "qwen2")
ALL_SITES = ["attention", "mlp", "embedding"]
ALPHABET = "0123456"
LATENTS = 3
ANSWER = -1

Steps = Callable[[int], Mapping[str, torch.Tensor]]


# -- what is tested -------------------------------------------------------------------------------


def make_layout(latent: bool = True) -> Layout:
    """The layout of chain arithmetic over characters."""
    tokenizer = character_tokenizer()
    markers = add_markers(tokenizer)
    template = Template(question_end="", step_end="", answer_start="#")
    return Layout(tokenizer, markers, template, latent)


LAYOUT = make_layout()
VOCABULARY = len(LAYOUT.tokenizer)
ALLOWED = tuple(
    sorted([LAYOUT.markers.eos, *LAYOUT.tokenizer(ALPHABET, add_special_tokens=False)["input_ids"]])
)
FORBIDDEN = tuple(sorted(set(range(VOCABULARY)) - set(ALLOWED)))


def twin(
    family: str,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    positions: int = 64,
    vocabulary: int = VOCABULARY,
) -> Any:
    """A random two-layer model of a family, in eval mode, every parameter away from its default."""
    from transformers import AutoConfig, AutoModelForCausalLM

    eos = LAYOUT.markers.eos
    if family == "gpt2":
        shape: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": positions}
    else:
        shape = {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": positions,
            "tie_word_embeddings": family == "qwen2",
        }
    config = AutoConfig.for_model(
        family, **shape, vocab_size=vocabulary, bos_token_id=eos, eos_token_id=eos, pad_token_id=0
    )
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config)
        torch.manual_seed(seed)  # how much the line above draws depends on the library's version
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape)
                if parameter.ndim == 1:  # norms and biases
                    parameter.add_(0.2 * noise)
                else:
                    parameter.copy_(0.17 * noise)
    if dtype == torch.float64:
        _keep_norms_exact(model)
    return model.to(dtype).eval()


def _keep_norms_exact(model: Any) -> None:
    """Transformers' RMS norms compute in float32 whatever the model's type; these do not."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):

            def norm(x: torch.Tensor, module: Any = module) -> torch.Tensor:
                mean = x.square().mean(dim=-1, keepdim=True)
                return module.weight * x * torch.rsqrt(mean + module.variance_epsilon)

            module.forward = norm


def make_policy(model: Any, noise: Any = None, latents: int = LATENTS) -> Policy:
    """A latent policy that may write the digits 0 to 6 and the end of text."""
    return Policy(model, Hidden(), noise or None_(), latents, LAYOUT.markers.eos, FORBIDDEN)


def make_prompts(count: int, seed: int = 0, longest: int = 9) -> list[Prompt]:
    """Random prompts of different lengths, each with a cue of its own."""
    rng = np.random.default_rng(seed)
    prompts = []
    for index in range(count):
        length = 2 + (index * 3 + 4) % (longest - 1)
        ids = rng.integers(3, VOCABULARY - 3, size=length)
        cue = int(rng.integers(3, VOCABULARY - 3))
        uid = int(rng.integers(2**63))
        prompts.append(Prompt(uid, tuple(int(i) for i in ids), cue, gold=str(index)))
    return prompts


def parity(text: str, gold: str) -> float:
    """A reward that varies within groups of random answers."""
    return float(sum(map(ord, text)) % 2)


def rolled(
    policy: Policy,
    prompts: Sequence[Prompt],
    group_size: int = 3,
    temperature: float = 1.0,
    budget: int = 6,
    seed: int = 0,
    step: int = 0,
    max_rows: int = 1024,
    reward: Any = parity,
) -> Rollouts:
    decoding = Decoding(temperature, budget)
    return roll_out(policy, prompts, LAYOUT, reward, decoding, group_size, seed, step, max_rows)


def replayed(policy: Policy, rollouts: Rollouts, temperature: float = 1.0) -> Replay:
    batch = collate_prompts(rollouts.prompts, LAYOUT.markers.pad)
    text = rollouts.answers.text
    return policy.replay(batch, rollouts.noise, text, rollouts.group_size, temperature)


# -- the naive side -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    """One row: `log_probs`, `entropy` [token]; `law` [token, type]; `thoughts` [step, feature];
    `after` [feature], the hidden state after the last slot."""

    log_probs: torch.Tensor
    entropy: torch.Tensor
    law: torch.Tensor
    thoughts: torch.Tensor
    after: torch.Tensor


def untouched(_step: int) -> Mapping[str, torch.Tensor]:
    return {}


def gains_of_row(noise: Any, record: NoiseRecord, row: int) -> Steps:
    """The multipliers [feature] of each site for one rollout, by step."""

    def at(step: int) -> Mapping[str, torch.Tensor]:
        effects = noise.effects(record, step)
        return {site: gain.values[row, 0] for site, gain in effects.items()}

    return at


def branches_by_name(model: Any) -> dict[str, nn.Module]:
    """The output projections of both residual branches of every block."""
    sites: dict[str, nn.Module] = {}
    if hasattr(model, "transformer"):
        for i, block in enumerate(model.transformer.h):
            sites |= {f"attention.{i}": block.attn.c_proj, f"mlp.{i}": block.mlp.c_proj}
    else:
        for i, block in enumerate(model.model.layers):
            sites |= {f"attention.{i}": block.self_attn.o_proj, f"mlp.{i}": block.mlp.down_proj}
    return sites


def naive_hidden(
    model: Any, columns: Sequence[torch.Tensor], steps: Sequence[int], gains: Steps
) -> torch.Tensor:
    """Hidden states [position, feature] after the final norm of one row, without any cache."""
    vectors = torch.stack(list(columns))
    by_step = {step: gains(step) for step in set(steps)}

    def multiplier(site: str) -> torch.Tensor:
        ones = torch.ones(vectors.shape[1], dtype=vectors.dtype)
        return torch.stack([by_step[step].get(site, ones).to(vectors.dtype) for step in steps])

    touched = {site for sites in by_step.values() for site in sites}
    if "embedding" in touched:
        vectors = vectors * multiplier("embedding")
    with ExitStack() as stack:
        for site, module in branches_by_name(model).items():
            if site in touched:
                factor = multiplier(site)
                handle = module.register_forward_hook(lambda _m, _i, out, f=factor: out * f)
                stack.callback(handle.remove)
        output = model(inputs_embeds=vectors[None], output_hidden_states=True, use_cache=False)
    return output.hidden_states[-1][0]


def naive_scores(
    model: Any,
    prompt: Prompt,
    text: Sequence[int],
    latents: int,
    forbidden: Sequence[int] = (),
    temperature: float = 1.0,
    gains: Steps = untouched,
    detach: bool = False,
) -> Scored:
    """Score one text after one prompt by running the whole row again for every latent slot."""
    table = model.get_input_embeddings().weight
    columns = [table[token] for token in prompt.ids]
    steps = [0] * len(columns)
    thoughts = []
    for slot in range(1, latents + 1):
        thought = naive_hidden(model, columns, steps, gains)[-1]
        thoughts.append(thought)
        columns.append(thought.detach() if detach else thought)
        steps.append(slot)
    after = naive_hidden(model, columns, steps, gains)[-1]
    columns += [table[token] for token in (prompt.cue, *text[:-1])]
    steps += [ANSWER] * len(text)
    hidden = naive_hidden(model, columns, steps, gains)[-len(text) :]
    logits = hidden @ model.get_output_embeddings().weight.T / (temperature or 1.0)
    allowed = [token for token in range(logits.shape[-1]) if token not in set(forbidden)]
    kept = logits[:, allowed]
    law = torch.full_like(logits, float("-inf"))
    law[:, allowed] = kept - kept.exp().sum(dim=-1, keepdim=True).log()
    entropy = -(law[:, allowed].exp() * law[:, allowed]).sum(dim=-1)
    log_probs = torch.stack([law[i, token] for i, token in enumerate(text)])
    empty = hidden[:0]
    return Scored(log_probs, entropy, law, torch.stack(thoughts) if thoughts else empty, after)


def naive_rollout_scores(policy: Policy, rollouts: Rollouts, temperature: float) -> list[Scored]:
    """Every row of a batch of groups, each scored alone."""
    lengths = rollouts.answers.text.mask.sum(dim=1).tolist()
    return [
        naive_scores(
            policy.model,
            rollouts.prompts[row // rollouts.group_size],
            rollouts.answers.text.ids[row, :length].tolist(),
            policy.latents,
            policy.forbidden,
            temperature,
            gains_of_row(policy.noise, rollouts.noise, row),
        )
        for row, length in enumerate(lengths)
    ]


def philox(*words: int) -> np.random.Generator:
    """The stream of a key, spelt out: 32-bit words of seed, purpose, step, prompt, rollout."""
    seed, purpose, step, prompt, rollout = words
    high, low = prompt >> 32, prompt & 0xFFFFFFFF
    entropy = [seed >> 32, seed & 0xFFFFFFFF, purpose, step, high, low, rollout]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference; infinite where shapes differ or a value is not a number."""
    if one.shape != other.shape:
        return float("inf")
    if one.numel() == 0:
        return 0.0
    worst = float((one - other).detach().abs().max())
    return float("inf") if worst != worst else worst


def gradients(model: Any, value: torch.Tensor) -> list[torch.Tensor]:
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    pairs = zip(found, model.parameters(), strict=True)
    return [torch.zeros_like(p) if g is None else g for g, p in pairs]


def gradient_gap(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    """The largest difference of two gradients, relative to the largest entry."""
    scale = max(float(tensor.abs().max()) for tensor in other)
    return max(gap(a, b) for a, b in zip(one, other, strict=True)) / scale


# -- checks that tests and mutants share ----------------------------------------------------------


def check_rollouts(
    policy: Policy, prompts: Sequence[Prompt], temperature: float = 1.0, seed: int = 3
) -> Rollouts:
    """Tokens are those that each row's own uniform numbers pick from the naive law, and the
    log-probabilities, ends and rewards belong to them."""
    budget, step, size = 6, 2, 3
    rollouts = rolled(policy, prompts, size, temperature, budget, seed, step)
    answers = rollouts.answers
    for row, scored in enumerate(naive_rollout_scores(policy, rollouts, temperature)):
        length = int(answers.text.mask[row].sum())
        assert answers.text.mask[row].tolist() == [1] * length + [0] * (
            answers.text.mask.shape[1] - length
        )
        tokens = answers.text.ids[row, :length].tolist()
        assert gap(answers.log_probs[row, :length].to(scored.log_probs), scored.log_probs) < 1e-5
        assert (answers.log_probs[row, length:] == 0).all()
        assert policy.eos not in tokens[:-1]
        assert bool(answers.truncated[row]) == (tokens[-1] != policy.eos)
        assert length == budget or tokens[-1] == policy.eos
        prompt, rollout = rollouts.prompts[row // size], row % size
        draws = philox(seed, int(Purpose.ANSWER), step, prompt.uid, rollout).random(budget)
        cdf = scored.law.detach().double().exp().cumsum(dim=-1)
        for place, token in enumerate(tokens):
            if temperature == 0.0:
                assert scored.law[place].max() - scored.law[place, token] < 1e-5
                continue
            below = float(cdf[place, token - 1]) if token else 0.0
            assert below - 1e-6 <= draws[place] <= float(cdf[place, token]) + 1e-6
        assert rollouts.rewards[row // size, rollout] == parity(rollouts.texts[row], prompt.gold)
        assert rollouts.texts[row] == LAYOUT.decode(tokens)
    return rollouts


def check_replay(policy: Policy, prompts: Sequence[Prompt], temperature: float = 1.0) -> Rollouts:
    """A replay scores what was rolled out: ratio 1, and the naive log-probabilities, entropies and
    thoughts, each row alone."""
    rollouts = rolled(policy, prompts, 3, temperature)
    replay = replayed(policy, rollouts, temperature)
    mask = rollouts.answers.text.mask.bool()
    assert not replay.log_probs.isnan().any()
    ratio = (replay.log_probs - rollouts.answers.log_probs).exp()
    assert (ratio - 1).abs().max() <= 1e-5
    assert (replay.log_probs[~mask] == 0).all() and (replay.entropy[~mask] == 0).all()
    for row, scored in enumerate(naive_rollout_scores(policy, rollouts, temperature)):
        real = mask[row]
        assert gap(replay.log_probs[row, real], scored.log_probs) < 1e-5
        assert gap(replay.entropy[row, real], scored.entropy) < 1e-5
        assert gap(replay.thoughts[row], scored.thoughts) < 1e-5
    return rollouts


def replay_and_naive_gradients(
    policy: Policy, prompts: Sequence[Prompt]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The gradient of one weighted sum of log-probabilities by replay and by the naive side."""
    texts = torch.tensor(np.random.default_rng(0).choice(ALLOWED, size=(2 * len(prompts), 4)))
    keys = [Key(0, Purpose.NOISE, 0, p.uid, k) for p in prompts for k in range(2)]
    record = policy.noise.draw(keys, policy.sites(), policy.latents)
    text = Text(texts, torch.ones_like(texts))
    weights = torch.linspace(-1, 1.7, texts.numel(), dtype=policy.model.dtype).reshape(texts.shape)
    batch = collate_prompts(prompts, LAYOUT.markers.pad)
    replay = policy.replay(batch, record, text, 2)
    total = torch.zeros((), dtype=policy.model.dtype)
    for row in range(len(texts)):
        scored = naive_scores(
            policy.model,
            prompts[row // 2],
            texts[row].tolist(),
            policy.latents,
            policy.forbidden,
            1.0,
            gains_of_row(policy.noise, record, row),
        )
        total = total + (scored.log_probs * weights[row]).sum()
    mine = gradients(policy.model, (replay.log_probs * weights).sum())
    return mine, gradients(policy.model, total)


def check_gradient(policy: Policy, prompts: Sequence[Prompt]) -> None:
    """The gradient of a replay is that of the naive computation, through every thought."""
    assert policy.model.dtype == torch.float64
    assert gradient_gap(*replay_and_naive_gradients(policy, prompts)) < 1e-9


def check_columns(latents: int = 4) -> None:
    """Mask 0 of a per-step record acts on the prompt, mask t on slot t, the last on the answer."""
    noise = PerStepMask(rate=0.5, scope="all")
    masks = torch.arange(2 * (latents + 2) * 3, dtype=torch.float32).reshape(2, latents + 2, 3)
    record = NoiseRecord({"mlp.0": masks})
    drawn = noise.draw([Key(0, Purpose.NOISE)], {"mlp.0": Site(3)}, latents)
    assert drawn.tensors["mlp.0"].shape == (1, latents + 2, 3)
    for step, column in [(0, 0), *((t, t) for t in range(1, latents + 1)), (ANSWER, latents + 1)]:
        gain = noise.gains(record, step)["mlp.0"]
        assert gain.shape == (2, 1, 3)
        assert torch.equal(gain[:, 0], masks[:, column])


def check_state_reuse(policy: Policy, prompts: Sequence[Prompt]) -> None:
    """What is decoded or read from a state leaves it as it was."""
    quiet = policy.under(None_())
    batch = collate_prompts(prompts, LAYOUT.markers.pad)
    nothing = NoiseRecord()
    with torch.no_grad():
        state, _ = quiet.latent_phase(batch, nothing, 1)
        first = quiet.decode(state, batch.cue, nothing, Decoding(0.0, 5))
        again = quiet.decode(state, batch.cue, nothing, Decoding(0.0, 5))
        repeated = quiet.decode(
            state.repeat(2), batch.cue.repeat_interleave(2), nothing, Decoding(0.0, 5)
        )
    assert torch.equal(first.text.ids, again.text.ids)
    assert torch.equal(first.log_probs, again.log_probs)
    assert torch.equal(repeated.text.ids[::2], first.text.ids)
    assert torch.equal(repeated.text.ids[1::2], first.text.ids)


def groups(rewards: Sequence[Sequence[float]], truncated: Any = None) -> Groups:
    values = torch.tensor(rewards, dtype=torch.float64)
    cut = torch.zeros(values.shape, dtype=torch.bool) if truncated is None else truncated
    return Groups(values, torch.as_tensor(cut), torch.zeros_like(values))


def check_mean_values() -> None:
    """The mean-only advantage compares within a group: worked values."""
    found = Mean()(groups([[1, 0, 0, 0], [1, 1, 1, 0]]))
    assert found.tolist() == [[0.75, -0.25, -0.25, -0.25], [0.25, 0.25, 0.25, -0.75]]
    assert Mean()(groups([[1, 0]])).tolist() == [[0.5, -0.5]]


def loss_input(
    advantages: Sequence[float],
    ratios: Sequence[Sequence[float]],
    lengths: Sequence[int],
    total_rows: int | None = None,
    total_tokens: int | None = None,
) -> LossInput:
    """Scored tokens with the given ratios; `old` is an arbitrary float64 base."""
    rho = torch.tensor(ratios, dtype=torch.float64)
    mask = (torch.arange(rho.shape[1])[None] < torch.tensor(lengths)[:, None]).long()
    old = -torch.linspace(0.1, 2.0, rho.numel(), dtype=torch.float64).reshape(rho.shape)
    return LossInput(
        log_probs=(old + rho.log()).requires_grad_(),
        old_log_probs=old,
        mask=mask,
        advantages=torch.tensor(advantages, dtype=torch.float64)[:, None].expand(rho.shape),
        total_rows=total_rows or len(advantages),
        total_tokens=total_tokens or int(mask.sum()),
    )


def check_surrogate_values() -> None:
    """The clipped surrogate: worked (advantage, ratio) -> objective, and both normalisations."""
    table = [
        (1.0, 1.25, 1.25, 1.20),
        (1.0, 1.30, 1.28, 1.20),
        (-1.0, 0.75, -0.80, -0.80),
        (1.0, 0.75, 0.75, 0.75),
        (-1.0, 1.25, -1.25, -1.25),
    ]
    for advantage, ratio, high, even in table:
        batch = loss_input([advantage], [[ratio]], [1])
        for clip_high, expected in ((0.28, high), (0.2, even)):
            loss = Clipped(clip_high=clip_high)(batch).loss
            assert abs(-loss.item() - expected) < 1e-12
    two = loss_input([1.0, -1.0], [[1.0] * 3] * 2, [1, 3])
    assert abs(Clipped(aggregate="token_mean")(two).loss.item() - 0.5) < 1e-12
    assert abs(Clipped(aggregate="token_sum")(two).loss.item() - 1.0) < 1e-12


def with_latents(policy: Policy, latents: int) -> Policy:
    return replace(policy, latents=latents)
