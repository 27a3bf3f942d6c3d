"""ProsQA made anew: which of two categories a name belongs to (Coconut, arXiv 2412.06769)."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, pairwise
from operator import or_
from typing import Any, ClassVar

import numpy as np

from latentbench.data._generated import LogicGenerator
from latentbench.data._words import PROSQA_CATEGORIES, PROSQA_NAMES

# Sets these streams apart from others that start from the same small seed.
_STREAM = 0x70726F73
_MOST_NODES = len(PROSQA_CATEGORIES)

Edge = tuple[int, int]


@dataclass(frozen=True)
class ProsqaGen(LogicGenerator):
    """Directed graphs of names and categories told as sentences, and one question with two options.

    Graphs grow as in the paper, from nodes 0 and 1: every new node takes Poisson(1.5) parents, with
    probabilities 0.4, 0.4 and 0.2 from what descends from node 0 alone, from node 1 alone, or from
    all nodes, and rather nodes far from a root (these shares give the published files' counts of
    nodes, edges, parents and hops). The question is asked about the root with the farther leaf that
    is not below the other one: `min_hops` to `max_hops` away; the wrong option is a leaf below the
    other root alone.
    `nodes` counts those drawn; nodes without any edge are left out. Records have the fields of the
    published files.
    """

    name: str = "prosqa_gen"
    nodes: int = 28
    min_hops: int = 3
    max_hops: int = 6
    n_train: int = 17886
    n_validation: int = 300
    n_test: int = 500

    way_out: ClassVar[str] = "lower it, or set data.nodes higher or data.min_hops lower"

    def ranges(self) -> dict[str, tuple[int, int]]:
        return {
            "nodes": (8, _MOST_NODES),
            "min_hops": (1, 6),
            "max_hops": (self.min_hops, 8),
        }

    def records(self) -> Iterator[dict[str, Any]]:
        seeds = np.random.SeedSequence([self.seed, _STREAM])
        generator = np.random.Generator(np.random.Philox(seeds))
        while True:
            edges = grow(generator, self.nodes)
            ends = self._question(generator, edges)
            if ends is not None:
                yield _told(generator, edges, *ends)

    def _question(
        self, generator: np.random.Generator, edges: Sequence[Edge]
    ) -> tuple[int, int, int] | None:
        """Root, target and the wrong option; None where the graph has no such pair of leaves."""
        below = [distances(edges, root) for root in (0, 1)]
        parents = {parent for parent, _ in edges}
        leaves = [
            [node for node in below[root] if node not in parents | below[1 - root].keys() | {root}]
            for root in (0, 1)
        ]
        if not all(leaves):
            return None
        far = [max(below[root][node] for node in leaves[root]) for root in (0, 1)]
        root = 0 if far[0] > far[1] else 1
        if not self.min_hops <= far[root] <= self.max_hops:
            return None
        farthest = [node for node in leaves[root] if below[root][node] == far[root]]
        other = leaves[1 - root]
        target = farthest[generator.integers(len(farthest))]
        return root, target, other[generator.integers(len(other))]


def grow(generator: np.random.Generator, nodes: int) -> list[Edge]:
    """A random directed acyclic graph as (parent, child), parents numbered below their children."""
    depth, edges = [0, 0], []
    # By node: whether it descends from node 0 (1), from node 1 (2), from both (3), from none (0).
    origin = [1, 2]
    counts = generator.poisson(1.5, size=nodes).tolist()
    for node in range(2, nodes):
        side = generator.random()
        group = 1 if side <= 0.4 else 2 if side <= 0.8 else None
        candidates = [other for other in range(node) if group in (None, origin[other])]
        parents = []
        for _ in range(min(counts[node], len(candidates))):
            weights = list(accumulate(1 + 1.5 * depth[other] for other in candidates))
            place = bisect(weights, generator.random() * weights[-1])
            parents.append(candidates.pop(place))
        edges += [(parent, node) for parent in parents]
        origin.append(reduce(or_, (origin[parent] for parent in parents), 0))
        depth.append(1 + min((depth[parent] for parent in parents), default=-1))
    return edges


def distances(edges: Sequence[Edge], root: int) -> dict[int, int]:
    """Every node that can be reached from `root`, with the number of edges on a shortest way."""
    children: dict[int, list[int]] = {}
    for parent, child in edges:
        children.setdefault(parent, []).append(child)
    found, queue = {root: 0}, [root]
    for node in queue:
        for child in children.get(node, []):
            if child not in found:
                found[child] = found[node] + 1
                queue.append(child)
    return found


def _told(
    generator: np.random.Generator, edges: Sequence[Edge], root: int, target: int, other: int
) -> dict[str, Any]:
    """The graph in words, its nodes numbered anew without those that have no edge."""
    kept = sorted({node for edge in edges for node in edge})
    place = {node: index for index, node in enumerate(kept)}
    edges = [(place[parent], place[child]) for parent, child in edges]
    root, target, other = place[root], place[target], place[other]
    named = set(range(len(kept))) - {child for _, child in edges}
    names = iter(generator.permutation(PROSQA_NAMES).tolist())
    categories = iter(generator.permutation(PROSQA_CATEGORIES).tolist())
    symbols = [next(names if node in named else categories) for node in range(len(kept))]

    def sentence(parent: int, child: int) -> str:
        subject = symbols[parent] if parent in named else f"Every {symbols[parent]}"
        return f"{subject} is a {symbols[child]}."

    told = [sentence(*edges[index]) for index in generator.permutation(len(edges))]
    options = [symbols[target], symbols[other]][:: 1 if generator.random() < 0.5 else -1]
    asked = f"Is {symbols[root]} a {options[0]} or {options[1]}?"
    way = _way(edges, root, target)
    return {
        "question": " ".join([*told, asked]),
        "answer": f"{symbols[root]} is a {symbols[target]}.",
        "steps": [sentence(parent, child) for parent, child in pairwise(way)],
        "idx_to_symbol": symbols,
        "edges": [list(edge) for edge in edges],
        "root": root,
        "target": target,
        "neg_target": other,
    }


def _way(edges: Sequence[Edge], root: int, target: int) -> list[int]:
    """A shortest way, the first found from its end."""
    far, way = distances(edges, root), [target]
    while way[-1] != root:
        parents = (parent for parent, child in edges if child == way[-1])
        way.append(next(p for p in parents if far.get(p, -1) == far[way[-1]] - 1))
    return way[::-1]
