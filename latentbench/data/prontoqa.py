"""ProntoQA (arXiv 2210.01240), 5 hops: is a statement true under rules about made-up kinds?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentbench.data._published import Edition, File, HubSplit, Published, of_fields
from latentbench.data._rows import make_item, text, texts
from latentbench.errors import InputError, shorten
from latentbench.records import Item

_COCONUT = "michaelrizvi/coconut @ 8a939d7cf261dd18a6050222737131b2a44f6f5a : data"
_LOGIC_LM = "teacherpeterpan/Logic-LLM @ d29f1e5e7203e8826cb9c41ba3003e43dc0b9d34 : data"
_LETTERS = {"A": "True", "B": "False"}


def parse(record: Mapping[str, Any], where: str) -> Item | None:
    """A row of the Coconut layout, whose answer is `True` or `False`."""
    question, answer = (text(record, where, name) for name in ("question", "answer"))
    return make_item(question, texts(record, where, "steps"), answer, where)


def parse_logic_lm(record: Mapping[str, Any], where: str) -> Item | None:
    """A row of the Logic-LM layout: rules apart from the question, answer `A` or `B`."""
    question = f"{text(record, where, 'context').strip()} {text(record, where, 'question').strip()}"
    letter = text(record, where, "answer").strip()
    if letter not in _LETTERS:
        raise InputError(f"{where}: answer {shorten(letter)}: must be A (True) or B (False)")
    steps = texts(record, where, "explanation") if "explanation" in record else ()
    return make_item(question, steps, _LETTERS[letter], where)


def _file(name: str, split: str, *editions: Edition, optional: bool = False) -> File:
    alias = f"prontoqa_{name}.json"
    return File(
        f"prontoqa/{name}.json",
        split,
        f"{_COCONUT}/{alias}",
        of_fields(parse),
        editions,
        alias,
        optional,
    )


_SAMPLES = {
    "coconut": (
        _file("train", "train", optional=True),
        _file(
            "valid",
            "validation",
            Edition(200, "c61e8c80beb1d9958d135346a34b26f2f64777c4b22925f9d25c0ba6b4d7a70b"),
        ),
        _file(
            "test",
            "test",
            Edition(800, "53925389a02e367ce2c679719cc041436ccdae7dfc312cb2d811541f47ff5472"),
        ),
    ),
    "logic_lm": (
        File(
            "prontoqa/logiclm_dev.json",
            "test",
            f"{_LOGIC_LM}/ProntoQA/dev.json",
            of_fields(parse_logic_lm),
            (Edition(500, "2d2e9d0adbef05cd66b51d11516b8fb3d3fb2cbc1664867d1123a000f7b11a5f"),),
        ),
    ),
}


@dataclass(frozen=True)
class Prontoqa(Published):
    """`sample=coconut`: 200 validation and 800 test questions in the layout of the Coconut code,
    presumably drawn anew with its generator flags. `sample=logic_lm`: the 500 questions of
    Logic-LM (arXiv 2305.12295), for test alone, which the hub has too.

    Answers are `True` and `False` in both. `prontoqa_train.json` (or `prontoqa/train.json`) trains
    when it is there. Raises InputError for another sample.
    """

    name: str = "prontoqa"
    sample: str = "coconut"
    hub: str | None = "renma/ProntoQA"
    revision: str = "6f3e03863ce763efd1f9cd11aacf4caff1b7af02"

    grader: ClassVar[str | None] = "exact_string"
    files: ClassVar[tuple[File, ...]] = tuple(file for part in _SAMPLES.values() for file in part)

    def __post_init__(self) -> None:
        if self.sample not in _SAMPLES:
            raise InputError(f"data.sample={self.sample}: choose one of {', '.join(_SAMPLES)}")

    def chosen_files(self) -> tuple[File, ...]:
        return _SAMPLES[self.sample]

    def chosen_hub_splits(self) -> tuple[HubSplit, ...]:
        if self.sample != "logic_lm":
            raise InputError(
                f"data.root=null: data.sample={self.sample} is not on the hub; use local files: "
                "data.root=<directory> with prontoqa/valid.json and prontoqa/test.json, or "
                "data.sample=logic_lm"
            )
        return (HubSplit("test", of_fields(parse_logic_lm), "validation", 500),)
