"""What the truth tests of the methods compare with: the reference formulas in NumPy float64, and
rows scored one at a time without cache."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from checks import LATENTS, LAYOUT, naive_hidden, untouched

from latentbench.carrier import Lexicon
from latentbench.carrier.hidden import Hidden
from latentbench.model.policy import Policy
from latentbench.noise.none import None_
from latentbench.records import Prompt

# Markers and padding, and three types that a mixture would otherwise like to take.
FEW = tuple(sorted({*[vars(LAYOUT.markers)[m] for m in ("start", "latent", "end", "pad")], 7, 31}))


def policy_with(
    model: Any,
    carrier: Any = None,
    noise: Any = None,
    latents: int = LATENTS,
    forbidden: Sequence[int] = FEW,
) -> Policy:
    """A policy that may write nearly everything, so that mixtures have something to mix."""
    marks = LAYOUT.markers
    return Policy(
        model,
        carrier or Hidden(),
        noise or None_(),
        latents,
        marks.eos,
        tuple(forbidden),
        marks.latent,
    )


def head_of(model: Any) -> np.ndarray:
    return model.get_output_embeddings().weight.detach().double().numpy()


def table_of(model: Any) -> np.ndarray:
    return model.get_input_embeddings().weight.detach().double().numpy()


def fixed_lexicon(law: np.ndarray, width: int = 6, seed: int = 0) -> Lexicon:
    """A lexicon whose law does not depend on the hidden state; law [row, token type]."""
    table = torch.nn.Embedding(law.shape[-1], width, dtype=torch.float64)
    with torch.no_grad():
        table.weight.copy_(
            torch.from_numpy(np.random.default_rng(seed).normal(size=(law.shape[-1], width)))
        )
    model = SimpleNamespace(get_input_embeddings=lambda: table)
    return Lexicon(model, lambda hidden: torch.from_numpy(law), 0)


# -- formulas ------------------------------------------------------------------------------------


def log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max()
    with np.errstate(divide="ignore"):
        return shifted - np.log(np.exp(shifted).sum())


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(scores))


def log_law(hidden: Any, model: Any, forbidden: Sequence[int] = FEW) -> np.ndarray:
    """log p [token type] after one hidden state [feature]; -inf for what may not be written."""
    logits = head_of(model) @ np.asarray(hidden, dtype=np.float64)
    logits[list(forbidden)] = -np.inf
    return log_softmax(logits)


def only(scores: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """The scores of the kept types, -inf for all others."""
    out = np.full_like(scores, -np.inf)
    out[list(kept)] = scores[list(kept)]
    return out


def top(scores: np.ndarray, k: int) -> list[int]:
    return np.argsort(-scores, kind="stable")[:k].tolist()


def nucleus_of(scores: np.ndarray, top_p: float) -> list[int]:
    """A type stays if the mass of the better ones is below top_p."""
    law, kept, mass = softmax(scores), [], 0.0
    for token in np.argsort(-scores, kind="stable"):
        if kept and mass >= top_p:
            break
        kept.append(int(token))
        mass += law[token]
    return kept


def mixture_of(scores: np.ndarray, k: int, temperature: float = 1.0) -> np.ndarray:
    """Dense weights [token type] of the mixture of the k best scores."""
    return softmax(only(scores, top(scores, k)) / temperature)


def dense(choice: Any, row: int, step: int, size: int) -> np.ndarray:
    """The weights of a recorded choice, scattered over all token types."""
    out = np.zeros(size)
    ids, weights = choice["ids"][row, step].numpy(), choice["weights"][row, step]
    assert len(set(ids.tolist())) == len(ids)
    out[ids] = weights.detach().double().numpy()
    return out


# -- stored thoughts, row by row -----------------------------------------------------------------


def law_after(
    model: Any, hidden: torch.Tensor, forbidden: Sequence[int], temperature: float
) -> Any:
    """The log-law [position, token type] with gradient, computed over the allowed types alone."""
    logits = hidden @ model.get_output_embeddings().weight.T / temperature
    allowed = [token for token in range(logits.shape[-1]) if token not in set(forbidden)]
    law = torch.full_like(logits, float("-inf"))
    kept = logits[:, allowed]
    law[:, allowed] = kept - kept.logsumexp(dim=-1, keepdim=True)
    return law


def naive_stored(
    policy: Policy,
    prompt: Prompt,
    vectors: torch.Tensor,
    text: Sequence[int],
    temperature: float = 1.0,
    fixed_inputs: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The law before each latent slot [step, token type] at temperature 1, and the log-probability
    of each token of the text [token], with the given vectors in the slots. The row runs again from
    its start for every slot. With `fixed_inputs` the embeddings are trained by the head alone."""
    model = policy.model
    table = model.get_input_embeddings().weight
    table = table.detach() if fixed_inputs else table
    start = [table[token] for token in prompt.ids]
    slots = [vector.detach() for vector in vectors]
    laws = []
    for step in range(len(slots)):
        columns = start + slots[:step]
        hidden = naive_hidden(model, columns, [0] * len(columns), untouched)[-1:]
        laws.append(law_after(model, hidden, policy.forbidden, 1.0)[0])
    columns = start + slots + [table[token] for token in (prompt.cue, *text[:-1])]
    hidden = naive_hidden(model, columns, [0] * len(columns), untouched)[-len(text) :]
    law = law_after(model, hidden, policy.forbidden, temperature)
    scores = torch.stack([law[place, token] for place, token in enumerate(text)])
    return torch.stack(laws) if laws else law[:0], scores
