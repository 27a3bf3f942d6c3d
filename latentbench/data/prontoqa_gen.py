"""ProntoQA made anew: does a chain of rules make a statement true (arXiv 2210.01240, 5 hops)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from latentbench.data._generated import LogicGenerator
from latentbench.data._words import PRONTOQA_CATEGORIES, PRONTOQA_FAMILIES, PRONTOQA_NAMES

# Sets these streams apart from others that start from the same small seed.
_STREAM = 0x70726F6E
# Shares of negated properties in the published files: of the one asked about, of all others.
_NEGATED_LAST, _NEGATED = 0.456, 0.29


@dataclass(frozen=True)
class ProntoqaGen(LogicGenerator):
    """`Each lorpus is a vumpus. Yumpuses are feisty. ... True or false: Stella is not floral.`

    Someone belongs to the first of `hops` categories, each of which is one of the next; every one
    has a property and a second, idle parent category, the last has two. A second category of the
    same person leads nowhere, and a category that nobody belongs to has the property that is
    asked about, negated. Records have the fields of the published files (5 hops, 6 steps), whose
    `idx_to_symbol` and `edges` leave out categories that only ever occur as a plural after `are`.
    """

    name: str = "prontoqa_gen"
    hops: int = 5
    n_train: int = 9000
    n_validation: int = 200
    n_test: int = 800

    def ranges(self) -> dict[str, tuple[int, int]]:
        # A chain of h takes 2h + 1 categories, the rest of the problem 3; a property family is used
        # by every category of the chain and beside it and by one more.
        return {
            "hops": (1, min((len(PRONTOQA_CATEGORIES) - 4) // 2, (len(PRONTOQA_FAMILIES) - 1) // 2))
        }

    def records(self) -> Iterator[dict[str, Any]]:
        seeds = np.random.SeedSequence([self.seed, _STREAM])
        generator = np.random.Generator(np.random.Philox(seeds))
        while True:
            yield _record(generator, self.hops)


def _record(generator: np.random.Generator, hops: int) -> dict[str, Any]:
    person = PRONTOQA_NAMES[generator.integers(len(PRONTOQA_NAMES))]
    words = generator.permutation(PRONTOQA_CATEGORIES).tolist()
    chain, idle, rest = words[:hops], words[hops : 2 * hops + 1], words[2 * hops + 1 :]
    second, beyond, nobody = rest[:3]
    links = list(pairwise(chain))
    # Every category of the chain has one idle parent, the last one has two.
    spare = [*zip(chain, idle, strict=False), (chain[-1], idle[-1]), (second, beyond)]
    # One of the last two idle ones has no property, nor has `beyond`.
    silent = idle[-1 - int(generator.integers(2))]
    holders = [*chain, second, *(word for word in idle if word != silent)]
    families = generator.permutation(len(PRONTOQA_FAMILIES))[: len(holders)]
    traits: dict[str, tuple[str, bool]] = {}
    for holder, family in zip(holders, families, strict=True):
        choices = PRONTOQA_FAMILIES[family]
        negated = generator.random() < (_NEGATED_LAST if holder == chain[-1] else _NEGATED)
        traits[holder] = choices[generator.integers(len(choices))], bool(negated)
    asked, negated = traits[chain[-1]]
    traits[nobody] = asked, not negated

    rules = {
        link: _rule(generator, link[0], _a(link[1]), _plural(link[1])) for link in links + spare
    }
    told = {h: _rule(generator, h, *[_trait(*trait)] * 2) for h, trait in traits.items()}
    sentences = [*rules.values(), *told.values()]
    first = [f"{person} is {_a(category)}." for category in (chain[0], second)]
    order = generator.permutation(len(sentences)), generator.permutation(2)
    body = [*(sentences[index] for index in order[0]), *(first[index] for index in order[1])]
    denied = bool(generator.random() < 0.5)
    reasons = [*(rules[link] for link in links), told[chain[-1]]]
    steps = [f"{person} is {_a(c)}. {reason}" for c, reason in zip(chain, reasons, strict=True)]
    symbols, edges = _published_graph(person, chain, rules, traits, body)
    return {
        "question": f"{' '.join(body)} True or false: {person} is {_trait(asked, denied)}.",
        "steps": [*steps, f"{person} is {_trait(asked, negated)}."],
        "answer": str(denied == negated),
        "idx_to_symbol": symbols,
        "edges": edges,
        "root": 0,
        "target": hops,
        "neg_target": hops + 1,
        "chain_concepts": chain,
    }


def _published_graph(
    person: str,
    chain: Sequence[str],
    rules: Mapping[tuple[str, str], str],
    traits: Mapping[str, tuple[str, bool]],
    body: Sequence[str],
) -> tuple[list[str], list[list[int]]]:
    """`idx_to_symbol` and `edges` as published: rules with Each or Every come first."""
    singular = {
        link
        for link, sentence in rules.items()
        if not sentence.startswith(_plural(link[0]).capitalize())
    }
    known = {*traits, *(child for _, child in singular), *(parent for parent, _ in rules)}
    symbols = [person, *chain, *sorted(known - set(chain))]
    place = {symbol: index for index, symbol in enumerate(symbols)}
    position = {sentence: index for index, sentence in enumerate(body)}
    ordered = sorted(rules, key=lambda link: (link not in singular, position[rules[link]]))
    edges = [[place[a], place[b]] for a, b in ordered if a in place and b in place]
    return symbols, edges


def _rule(generator: np.random.Generator, subject: str, singular: str, plural: str) -> str:
    """A sentence about all of a category, in one of the three forms of the data set."""
    form = generator.random()
    if form < 0.5:
        return f"{_plural(subject).capitalize()} are {plural}."
    return f"{'Each' if form < 0.75 else 'Every'} {subject} is {singular}."


def _trait(word: str, negated: bool) -> str:
    return f"not {word}" if negated else word


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _plural(word: str) -> str:
    return f"{word}es"
