"""Generated ProntoQA: proved by forward chaining, and beside the published files, one parser."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from latentbench.data._generated import item_of
from latentbench.data._overlap import normalise
from latentbench.data.prontoqa_gen import ProntoqaGen
from latentbench.errors import InputError

SMALL = ProntoqaGen(n_train=60, n_validation=8, n_test=16)
PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "data" / "prontoqa"

Record = dict[str, Any]
# Subject, whether it is denied, and what is said of it: a category or a property.
Statement = tuple[str, bool, str]


def generated(count: int, task: ProntoqaGen = SMALL) -> list[Record]:
    return [record for _, record in islice(task.stream(), count)]


def published() -> list[Record]:
    records = []
    for name in ("valid", "test"):
        with gzip.open(PUBLISHED / f"{name}.json.gz", "rt") as file:
            records += json.load(file)
    return records


def statement(sentence: str) -> Statement:
    """Each of the forms that occur, with its article."""
    forms = (
        r"(?:Each|Every) (?P<subject>[a-z]+) is (?P<no>not )?(?P<told>(?:an? )?[a-z]+)\.",
        r"(?P<subject>[A-Z][a-z]+pus)es are (?P<no>not )?(?P<told>[a-z]+)\.",
        r"(?P<subject>[A-Z][a-z]+) is (?P<no>not )?(?P<told>(?:an? )?[a-z]+)\.",
    )
    found = next(filter(None, (re.fullmatch(form, sentence) for form in forms)), None)
    assert found, sentence
    *article, word = found["told"].split()
    if "pus" in word and article:
        assert article == ["an" if word[0] in "aeiou" else "a"]
    subject = found["subject"]
    about_all = sentence.startswith(("Each", "Every")) or "puses are" in sentence
    return (subject.lower() if about_all else subject), bool(found["no"]), word.removesuffix("es")


def parsed(question: str) -> tuple[list[Statement], Statement]:
    body, asked = question.split(" True or false: ")
    return [statement(s.strip()) for s in re.findall(r"[^.]+\.", body)], statement(asked)


def proved(facts: Sequence[Statement], who: str) -> dict[str, bool]:
    """Forward chaining: all that follows about `who`, and whether it is affirmed."""
    known: dict[str, bool] = {who: True}
    while True:
        new = {
            told: not denied
            for subject, denied, told in facts
            if known.get(subject) and told not in known
        }
        if not new:
            return known
        known |= new


def is_category(word: str) -> bool:
    return word.endswith("pus")


def check(record: Record, hops: int = 5) -> None:
    """What holds for every record, published or not."""
    facts, (who, denied, asked) = parsed(record["question"])
    assert set(record) == {
        *("question", "answer", "steps", "idx_to_symbol", "edges"),
        *("root", "target", "neg_target", "chain_concepts"),
    }
    known = proved(facts, who)
    assert record["answer"] == str(known[asked] != denied)
    rules = [(a, b) for a, _, b in facts if a != who and is_category(b)]
    traits = [(a, denied, b) for a, denied, b in facts if not is_category(b)]
    assert len(rules) == 2 * hops + 1 and len(traits) == 2 * hops + 2
    assert len({a for a, *_ in traits}) == len(traits), "one property a category"
    assert len(facts) == len(rules) + len(traits) + 2 and [f[0] for f in facts[-2:]] == [who, who]
    chain = record["chain_concepts"]
    assert len(chain) == hops and set(pairwise(chain)) <= set(rules)
    symbols = record["idx_to_symbol"]
    assert symbols[: hops + 1] == [who, *chain]
    assert (record["root"], record["target"], record["neg_target"]) == (0, hops, hops + 1)
    assert symbols[hops + 1 :] == sorted(symbols[hops + 1 :])
    edges = [(symbols[a], symbols[b]) for a, b in record["edges"]]
    assert len(set(edges)) == len(edges) and set(edges) <= set(rules)
    unseen = {word for rule in set(rules) - set(edges) for word in rule} - set(symbols)
    assert all(re.search(rf"are {word}es\.", record["question"]) for word in unseen)
    assert len(set(rules) - set(edges)) == len(unseen)
    # The proof: who, at which category, by which sentence of the question.
    *steps, last = record["steps"]
    at = chain[0]
    for step, category in zip(steps, chain, strict=True):
        first, sentence = re.findall(r"[^.]+\.", step)
        assert statement(first) == (who, False, category) and category == at
        assert sentence.strip() in record["question"]
        at = statement(sentence.strip())[2]
    assert statement(last) == (who, not known[asked], asked) and at == asked


def traits_of(records: Sequence[Record]) -> list[Statement]:
    return [s for r in records for s in parsed(r["question"])[0] if not is_category(s[2])]


def test_every_generated_statement_has_the_truth_value_that_follows() -> None:
    for record in generated(300):
        check(record)


@pytest.mark.parametrize("hops", [1, 3, 6])
def test_chains_have_the_length_asked_for(hops: int) -> None:
    for record in generated(20, replace(SMALL, hops=hops)):
        check(record, hops)
        assert len(record["steps"]) == hops + 1


def test_true_and_false_are_balanced() -> None:
    # 1,000 fair coins: 0.5 +- 4 standard deviations.
    found = mean(record["answer"] == "True" for record in generated(1000))
    assert found == pytest.approx(0.5, abs=0.064)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs the published files")
def test_generated_and_published_records_look_alike() -> None:
    """Same fields, rules and words; shares of forms and negations within a few points."""
    real, own = published(), generated(1000)
    for record in real:
        check(record)
    for share in (
        lambda r: mean(negated for _, negated, _ in traits_of(r)),
        lambda r: mean("puses are" in s for x in r for s in x["question"].split(". ")),
        lambda r: mean("Each" in s for x in r for s in x["question"].split(". ")),
        lambda r: mean("not" in x["steps"][-1] for x in r),
        lambda r: mean("is not" in x["question"].split("false: ")[1] for x in r),
    ):
        assert share(own) == pytest.approx(share(real), abs=0.06)
    counts = [Counter(len(r["edges"]) for r in records) for records in (real, own)]
    assert all(abs(counts[0][n] - counts[1][n]) < 70 for n in (9, 10, 11))
    for words in (
        lambda r: {x["idx_to_symbol"][0] for x in r},
        lambda r: {word for x in r for word in x["idx_to_symbol"][1:]},
        lambda r: {word for _, _, word in traits_of(r)},
    ):
        assert words(own) == words(real)


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


def test_files_hold_the_records_in_published_fields(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    splits = SMALL.load()
    for name, items in (
        ("train", splits.train),
        ("valid", splits.validation),
        ("test", splits.test),
    ):
        records = json.loads((tmp_path / f"prontoqa_{name}.json").read_text())
        assert [item_of(record) for record in records] == list(items)
        check(records[0])


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"hops": 0}, "data.hops=0: must be 1 to 6"),
        ({"hops": 7}, "data.hops=7: must be 1 to 6"),
        ({"n_validation": 0}, "data.n_validation=0"),
        ({"seed": -1}, "data.seed=-1"),
    ],
)
def test_knobs_that_cannot_work_are_refused_by_name(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ProntoqaGen(**knobs)
