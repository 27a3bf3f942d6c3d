"""A Hugging Face causal LM as a latent policy: prefill, think, decode, replay.

Rollout and replay run the same latent phase with the same noise record; only the text after it is
sampled in one and teacher-forced in the other. The LM head is applied where log-probabilities of
text are needed and nowhere else.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from latentbench.carrier import Carrier, Choice, Lexicon
from latentbench.errors import InputError
from latentbench.keys import Key
from latentbench.model.families import residual_branches, value_projections
from latentbench.noise import ANSWER, PROMPT, Effect, Effects, NoiseSource, Site, prefix_safe
from latentbench.records import Answers, NoiseRecord, PromptBatch, Replay, Text, Thoughts


@dataclass(frozen=True)
class State:
    """Where a batch of rows stands between two forwards.

    `hidden` [row, feature] is the last hidden state after the final norm, `mask` [row, position]
    covers what the cache holds, `position` [row] is the next position id.
    """

    cache: Any
    hidden: torch.Tensor
    mask: torch.Tensor
    position: torch.Tensor

    def rows(self, index: torch.Tensor) -> State:
        cache = _fork(self.cache)
        cache.batch_select_indices(index)
        return State(cache, self.hidden[index], self.mask[index], self.position[index])

    def repeat(self, times: int) -> State:
        """Each row `times` times, group-major."""
        if times == 1:
            return self
        cache = _fork(self.cache)
        cache.batch_repeat_interleave(times)
        return State(
            cache,
            self.hidden.repeat_interleave(times, dim=0),
            self.mask.repeat_interleave(times, dim=0),
            self.position.repeat_interleave(times, dim=0),
        )


@dataclass(frozen=True)
class Decoding:
    """How text is chosen: `temperature` 0 is greedy; `budget` bounds the tokens of an answer."""

    temperature: float = 1.0
    budget: int = 64


@dataclass(frozen=True)
class Policy:
    """The model with its carrier, its noise and the tokens that it may not write.

    `forbidden` ids (padding and the latent markers) have probability zero in sampling and scoring
    alike. `latent` is the id of the token that stands for a latent slot. An answer ends with `eos`,
    which is also what SFT writes, or with one of the further `ends` that the model itself has. With
    `fixed_inputs` the vectors of prompts and text are fed as they are: the embeddings get no
    gradient through them.
    """

    model: Any
    carrier: Carrier
    noise: NoiseSource
    latents: int
    eos: int
    forbidden: tuple[int, ...] = ()
    latent: int = 0
    ends: tuple[int, ...] = ()
    fixed_inputs: bool = False

    @property
    def device(self) -> torch.device:
        return self.model.device

    def sites(self) -> dict[str, Site]:
        """The sites that noise can act on, in a fixed order."""
        width = self.model.config.hidden_size
        sites = {"embedding": Site(width)}
        sites |= {site: Site(width) for site in residual_branches(self.model)}
        sites |= {site: value.site() for site, value in value_projections(self.model).items()}
        if "scores" in self.carrier.sites:
            sites["scores"] = Site(self.model.get_output_embeddings().weight.shape[0])
        return sites | {"thought": Site(width)}

    def _vectors(self, ids: torch.Tensor) -> torch.Tensor:
        vectors = self.model.get_input_embeddings()(ids)
        return vectors.detach() if self.fixed_inputs else vectors

    def under(self, noise: NoiseSource) -> Policy:
        """The same policy under another noise source."""
        return replace(self, noise=noise)

    # -- the latent phase ---------------------------------------------------------------------

    def prefill(self, prompts: PromptBatch, record: NoiseRecord) -> State:
        """Run the prompts once. The last hidden state is the first thought's source."""
        position = (prompts.mask.cumsum(dim=1) - 1).clamp(min=0)
        vectors = self._vectors(prompts.ids)
        empty = State(None, vectors[:, -1], prompts.mask[:, :0], position[:, 0])
        effects = self.noise.effects(record, PROMPT)
        return self._advance(empty, vectors, prompts.mask, position, effects)[0]

    def think(
        self, state: State, record: NoiseRecord, forced: torch.Tensor | None = None
    ) -> tuple[State, Thoughts]:
        """T latent steps; each turns the last hidden state into the next input vector.

        `forced` [row, step, feature] are fed instead of the carrier's own. Returns the state after
        the last slot and the thoughts.
        """
        vectors, sources = [state.hidden[:, None][:, :0]], [state.hidden[:, None][:, :0]]
        choices: list[Choice] = []
        for step in range(1, self.latents + 1):
            effects = self.noise.effects(record, step)
            sources.append(state.hidden[:, None])
            if forced is None:
                thought, choice = self.carrier(state.hidden, self._lexicon, effects)
                choices.append(choice)
                if "thought" in effects:
                    thought = effects["thought"](state.hidden, thought)
            else:
                thought = forced[:, step - 1]
            vectors.append(thought[:, None])
            state = self._append(state, thought[:, None], None, effects)[0]
        names = choices[0] if choices else ()
        chosen = {name: torch.stack([c[name] for c in choices], dim=1) for name in names}
        return state, Thoughts(torch.cat(vectors, dim=1), torch.cat(sources, dim=1), chosen)

    def latent_phase(
        self,
        prompts: PromptBatch,
        record: NoiseRecord,
        group_size: int,
        forced: torch.Tensor | None = None,
    ) -> tuple[State, Thoughts]:
        """Prefill and think for `group_size` rollouts of each prompt, rows group-major.

        What the noise leaves alone runs once per prompt: nothing, the prompt, or all thoughts.
        """
        if not prefix_safe(self.noise):
            return self.think(self.prefill(prompts.repeat(group_size), record), record, forced)
        state = self.prefill(prompts, record)
        if self.noise.diverges == "latent" or forced is not None:
            return self.think(state.repeat(group_size), record, forced)
        state, thoughts = self.think(state, record)
        return state.repeat(group_size), thoughts.repeat(group_size)

    @property
    def _lexicon(self) -> Lexicon:
        return Lexicon(self.model, self.log_law, self.latent)

    # -- text ---------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(
        self,
        state: State,
        cue: torch.Tensor,
        record: NoiseRecord,
        decoding: Decoding,
        uniforms: torch.Tensor | None = None,
    ) -> Answers:
        """Write answers token by token, with cache; rows that end are pruned.

        cue [row]; `uniforms` [row, budget] in [0, 1) drive inverse-CDF sampling, so a row's tokens
        depend on its own numbers alone. Greedy needs none.
        """
        rows = torch.arange(len(cue), device=cue.device)
        ids = torch.full((len(cue), decoding.budget), self.eos, device=cue.device)
        mask = torch.zeros_like(ids)
        precision = _at_least_float32(self.model.dtype)
        log_probs = torch.zeros(ids.shape, device=cue.device, dtype=precision)
        entropy = torch.zeros_like(log_probs)
        effects = self.noise.effects(record, ANSWER)
        tokens, ends = cue, torch.tensor([self.eos, *self.ends], device=cue.device)
        for step in range(decoding.budget):
            vectors = self._vectors(tokens[:, None])
            state, hidden = self._append(state, vectors, None, effects)
            law = self.log_law(hidden[:, -1], decoding.temperature)
            if decoding.temperature == 0.0:
                tokens = law.argmax(dim=-1)
            else:
                assert uniforms is not None, "sampling needs uniforms"
                tokens = _inverse_cdf(law, uniforms[rows, step])
            ids[rows, step] = tokens
            mask[rows, step] = 1
            log_probs[rows, step] = law.gather(1, tokens[:, None])[:, 0]
            entropy[rows, step] = torch.special.entr(law.exp()).sum(dim=-1)
            alive = torch.isin(tokens, ends, invert=True).nonzero()[:, 0]
            if len(alive) == 0:
                break
            if len(alive) < len(rows):
                state, rows, tokens = state.rows(alive), rows[alive], tokens[alive]
                record = record.rows(alive)
                effects = self.noise.effects(record, ANSWER)
        unended = torch.isin(ids[:, -1], ends, invert=True)
        truncated = (mask.sum(dim=1) == decoding.budget) & unended
        width = max(int(mask.sum(dim=1).max()), 1)
        text = Text(ids[:, :width], mask[:, :width])
        return Answers(text, log_probs[:, :width], entropy[:, :width], truncated)

    def read(
        self, state: State, cue: torch.Tensor, record: NoiseRecord, text: Text
    ) -> torch.Tensor:
        """Teacher-force text after the cue: the hidden states [row, token, feature] from which each
        token of `text` is predicted."""
        return self._read(state, cue, record, text, False)

    def read_layers(
        self, state: State, cue: torch.Tensor, record: NoiseRecord, text: Text
    ) -> torch.Tensor:
        """`read` of the embeddings and every block [1 + layer, row, token, feature]; the last after
        the final norm."""
        return self._read(state, cue, record, text, True)

    def _read(
        self, state: State, cue: torch.Tensor, record: NoiseRecord, text: Text, every_layer: bool
    ) -> torch.Tensor:
        inputs = torch.cat([cue[:, None], text.ids[:, :-1]], dim=1)
        seen = torch.cat([torch.ones_like(cue)[:, None], text.mask[:, :-1]], dim=1)
        vectors = self._vectors(inputs)
        effects = self.noise.effects(record, ANSWER)
        return self._append(state, vectors, seen, effects, every_layer)[1]

    def replay(
        self,
        prompts: PromptBatch,
        record: NoiseRecord,
        text: Text,
        group_size: int,
        temperature: float = 1.0,
        stored: Thoughts | None = None,
    ) -> Replay:
        """Score rollouts again, with gradient through the whole latent chain (BPTT).

        With `stored` thoughts these are fed as they were, each slot is a problem of its own, and
        what they are mixed of is scored too. The text is scored under the law it was sampled from;
        greedy text under temperature 1.
        """
        forced = None if stored is None else stored.vectors
        state, thoughts = self.latent_phase(prompts, record, group_size, forced)
        hidden = self.read(state, prompts.cue.repeat_interleave(group_size), record, text)
        real = text.mask.bool()
        law = self.log_law(hidden[real], temperature)
        scores = law.gather(1, text.ids[real][:, None])[:, 0]
        with torch.no_grad():
            entropy = torch.special.entr(law.exp()).sum(dim=-1)
        chosen = None
        if stored is not None:
            chosen = self.log_law(thoughts.sources).gather(-1, stored.choice["ids"])
        return Replay(_scatter(scores, real), _scatter(entropy, real), thoughts.vectors, chosen)

    def log_law(self, hidden: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
        """Log-probabilities [row, token type] in float32 of the text that may follow `hidden`."""
        logits = self.model.get_output_embeddings()(hidden)
        logits = logits.to(_at_least_float32(logits.dtype))
        if self.forbidden:
            banned = torch.tensor(self.forbidden, device=logits.device)
            logits = logits.index_fill(-1, banned, float("-inf"))
        if temperature not in (0.0, 1.0):
            logits = logits / temperature
        return torch.log_softmax(logits, dim=-1)

    # -- one forward --------------------------------------------------------------------------

    def _append(
        self,
        state: State,
        vectors: torch.Tensor,
        seen: torch.Tensor | None,
        effects: Effects,
        every_layer: bool = False,
    ) -> tuple[State, torch.Tensor]:
        """Run `vectors` [row, position, feature] after what the state has seen."""
        if seen is None:
            seen = torch.ones(vectors.shape[:2], dtype=torch.long, device=vectors.device)
        position = state.position[:, None] + seen.cumsum(dim=1) - seen
        return self._advance(state, vectors, seen, position, effects, every_layer)

    def _advance(
        self,
        state: State,
        vectors: torch.Tensor,
        seen: torch.Tensor,
        position: torch.Tensor,
        effects: Effects,
        every_layer: bool = False,
    ) -> tuple[State, torch.Tensor]:
        cache = _new_cache(self.model) if state.cache is None else _fork(state.cache)
        mask = torch.cat([state.mask, seen], dim=1)
        if "embedding" in effects:
            vectors = effects["embedding"](vectors, vectors)
        with acting(self.model, effects):
            output = self.model.base_model(
                inputs_embeds=vectors,
                attention_mask=mask,
                position_ids=position,
                use_cache=True,
                output_hidden_states=every_layer,
                **{_cache_keyword(type(self.model.base_model)): cache},
            )
        hidden = output.last_hidden_state
        state = State(cache, hidden[:, -1], mask, position[:, -1] + 1)
        return state, torch.stack(output.hidden_states) if every_layer else hidden


@functools.cache
def _cache_keyword(model: type[nn.Module]) -> str:
    """What a model class calls its key-value cache: `cache` in newer versions of transformers,
    which drop the older name, `past_key_values`, in 5.40."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


@contextmanager
def acting(model: Any, effects: Effects) -> Iterator[None]:
    """Let effects act on the model's own sites during one forward; nothing stays behind."""
    handles = []
    if any("." in site for site in effects):
        places = {site: (module, 0) for site, module in residual_branches(model).items()}
        values = value_projections(model).items()
        places |= {site: (value.module, value.start) for site, value in values}
        for site, (module, start) in places.items():
            if site in effects:
                handles.append(module.register_forward_hook(_hook(effects[site], start)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(effect: Effect, start: int) -> Any:
    """A forward hook that changes the columns `start` and on of a linear map's output."""

    def hook(_module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if start == 0:
            return effect(inputs[0], output)
        return torch.cat([output[..., :start], effect(inputs[0], output[..., start:])], dim=-1)

    return hook


@contextmanager
def fresh_draws(noise: NoiseSource, key: Key, device: torch.device) -> Iterator[None]:
    """Around a phase under noise that is not replayed: its draws come from torch's generator, which
    is seeded by `key` and given back as it was. Nothing at all for every other noise."""
    if noise.replayed:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(key.integer())
        yield


def _new_cache(model: Any) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


def _fork(cache: Any) -> Any:
    """A cache that can grow without changing the one it came from.

    Tensors are shared, not copied: updates concatenate into new ones and leave these as they are.
    """
    fork = copy.copy(cache)
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    return fork


def _inverse_cdf(law: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The token at which each row's cumulated probability passes its uniform number [row]."""
    cdf = law.double().exp().cumsum(dim=-1)
    point = uniforms.to(cdf)[:, None] * cdf[:, -1:]
    tokens = torch.searchsorted(cdf, point, right=True)[:, 0].clamp(max=law.shape[-1] - 1)
    possible = law.gather(1, tokens[:, None])[:, 0] > float("-inf")
    return torch.where(possible, tokens, law.argmax(dim=-1))


def _scatter(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    return torch.zeros(where.shape, dtype=values.dtype, device=values.device).masked_scatter(
        where, values
    )


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_fits(length: int, latents: int, budget: int, positions: int, what: str) -> None:
    """Refuse a prompt that would run past the model's positions.

    Raises InputError naming the prompt, its length and the ways out.
    """
    needed = length + latents + 1 + budget
    if needed > positions:
        raise InputError(
            f"{what}: {length} tokens + {latents} latents + 1 + {budget} answer tokens = {needed} "
            f"positions, but the model has {positions}; use a model with more positions, fewer "
            "latents, a smaller budget, or leave the item out"
        )
