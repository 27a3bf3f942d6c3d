"""Generated ProsQA: solved by another route, and beside the published files read by one parser."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from latentbench.data._generated import item_of
from latentbench.data._overlap import normalise
from latentbench.data.prosqa_gen import ProsqaGen
from latentbench.errors import InputError

SMALL = ProsqaGen(n_train=60, n_validation=8, n_test=16)
PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "data" / "prosqa"

Record = dict[str, Any]


def generated(count: int, task: ProsqaGen = SMALL) -> list[Record]:
    return [record for _, record in islice(task.stream(), count)]


def published() -> list[Record]:
    records = []
    for name in ("valid", "test"):
        with gzip.open(PUBLISHED / f"{name}.json.gz", "rt") as file:
            records += json.load(file)
    return records


def parsed(question: str) -> tuple[list[tuple[str, str]], str, tuple[str, str]]:
    """Facts as (subject, category), who is asked about, and the two options."""
    body, asked = question[: question.index(" Is ")], question[question.index(" Is ") + 1 :]
    found = re.fullmatch(r"Is ([A-Z]\w+) a (\w+) or (\w+)\?", asked)
    assert found
    facts = []
    for sentence in re.findall(r"[^.]+\.", body):
        fact = re.fullmatch(r"(?:Every ([a-z]+)|([A-Z][a-z]+)) is a ([a-z]+)\.", sentence.strip())
        assert fact, sentence
        facts.append((fact[1] or fact[2], fact[3]))
    return facts, found[1], (found[2], found[3])


def reached(facts: Sequence[tuple[str, str]], start: str) -> dict[str, int]:
    """Breadth first, level by level: everything that `start` is, with its distance."""
    found, level, depth = {start: 0}, {start}, 0
    while level:
        depth += 1
        level = {b for a, b in facts if a in level} - found.keys()
        found |= dict.fromkeys(level, depth)
    return found


def check(record: Record) -> None:
    """What holds for every record, published or not."""
    facts, who, options = parsed(record["question"])
    symbols = record["idx_to_symbol"]
    target, other = symbols[record["target"]], symbols[record["neg_target"]]
    assert list(record) == [
        *("question", "answer", "steps", "idx_to_symbol", "edges"),
        *("root", "target", "neg_target"),
    ]
    assert set(options) == {target, other} and symbols[record["root"]] == who
    assert record["answer"] == f"{who} is a {target}."
    edges = [(symbols[a], symbols[b]) for a, b in record["edges"]]
    assert sorted(edges) == sorted(facts) and len(set(edges)) == len(edges)
    assert all(a < b for a, b in record["edges"])
    assert [b for _, b in record["edges"]] == sorted(b for _, b in record["edges"])
    assert {name for edge in edges for name in edge} == set(symbols)
    way = reached(facts, who)
    assert target in way and other not in way
    assert len(record["steps"]) == way[target]
    at = who
    for step in record["steps"]:
        ((subject, category),) = parsed(f"{step} Is X a y or z?".replace("X", who))[0]
        assert subject == at and (subject, category) in facts
        at = category
    assert at == target
    parents = {a for a, _ in edges}
    assert target not in parents and other not in parents
    heirs = {b for _, b in edges}
    assert all(name[0].isupper() == (name not in heirs) for name in symbols)


def shares(values: Sequence[Any]) -> dict[Any, float]:
    return {value: count / len(values) for value, count in Counter(values).items()}


def distance(left: Sequence[Any], right: Sequence[Any]) -> float:
    """Total variation distance of two samples."""
    one, other = shares(left), shares(right)
    return sum(abs(one.get(v, 0) - other.get(v, 0)) for v in one.keys() | other.keys()) / 2


def test_every_generated_graph_has_one_right_option() -> None:
    for record in generated(400):
        check(record)
        assert 3 <= len(record["steps"]) <= 6


def right_first(record: Record) -> bool:
    return parsed(record["question"])[2][0] == record["idx_to_symbol"][record["target"]]


def test_the_right_option_comes_first_half_of_the_time() -> None:
    # 1,000 fair coins: 0.5 +- 4 standard deviations.
    assert mean(map(right_first, generated(1000))) == pytest.approx(0.5, abs=0.064)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs the published files")
def test_generated_and_published_records_look_alike() -> None:
    """Same fields and rules, and distributions that differ no more than stated."""
    real, own = published(), generated(1600)
    for record in real:
        check(record)
    for record in own[:100]:
        check(record)
    hops: Callable[[Record], Any] = lambda record: len(record["steps"])  # noqa: E731
    assert distance(list(map(hops, real)), list(map(hops, own))) < 0.08

    def parents(records: Sequence[Record]) -> list[int]:
        return [n for r in records for n in Counter(child for _, child in r["edges"]).values()]

    assert distance(parents(real), parents(own)) < 0.03
    for count in (lambda r: len(r["edges"]), lambda r: len(r["idx_to_symbol"])):
        assert mean(map(count, own)) == pytest.approx(mean(map(count, real)), rel=0.03)
    assert mean(map(right_first, own)) == pytest.approx(mean(map(right_first, real)), abs=0.06)

    def people(record: Record) -> int:
        return sum(name[0].isupper() for name in record["idx_to_symbol"])

    assert mean(map(people, own)) == pytest.approx(mean(map(people, real)), rel=0.06)
    words = [{name for r in records for name in r["idx_to_symbol"]} for records in (real, own)]
    assert words[0] == words[1]


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs the published files")
def test_no_generated_question_is_a_published_one() -> None:
    known = {normalise(record["question"]) for record in published()}
    assert not known & {normalise(record["question"]) for record in generated(1000)}


def test_splits_are_disjoint_and_decided_by_seed_and_content() -> None:
    one, same, other = SMALL.load(), SMALL.load(), replace(SMALL, seed=1).load()
    assert one == same and one.provenance["digest"] != other.provenance["digest"]
    questions = [item.question for item in (*one.train, *one.validation, *one.test)]
    assert len(set(questions)) == 84
    longer = replace(SMALL, n_train=120).load()
    assert list(longer.train[:60]) == list(one.train) and longer.test == one.test


def test_knobs_shape_the_graphs() -> None:
    small = generated(50, replace(SMALL, nodes=14, min_hops=2, max_hops=3))
    assert {len(record["steps"]) for record in small} == {2, 3}
    assert max(len(record["idx_to_symbol"]) for record in small) <= 14
    for record in small:
        check(record)


def test_files_hold_the_records_in_published_fields(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    splits = SMALL.load()
    for name, items in (
        ("train", splits.train),
        ("valid", splits.validation),
        ("test", splits.test),
    ):
        records = json.loads((tmp_path / f"prosqa_{name}.json").read_text())
        assert [item_of(record) for record in records] == list(items)
        check(records[0])


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"nodes": 5}, "data.nodes=5: must be 8 to 38"),
        ({"min_hops": 0}, "data.min_hops=0"),
        ({"min_hops": 4, "max_hops": 3}, "data.max_hops=3: must be 4 to 8"),
        ({"n_train": 0}, "data.n_train=0"),
        ({"seed": -1}, "data.seed=-1"),
    ],
)
def test_knobs_that_cannot_work_are_refused_by_name(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ProsqaGen(**knobs)
