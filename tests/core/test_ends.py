"""An answer ends with any of the model's end tokens, and a question with none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from checks import LAYOUT, make_policy, make_prompts, rolled, twin
from transformers import GenerationConfig

from latentbench.model.backbone import Backbone
from latentbench.model.layout import Layout
from latentbench.model.tokenizer import add_markers, character_tokenizer
from latentbench.records import Item, Template


def test_every_end_token_ends_an_answer() -> None:
    """The rows are those of one end token, each cut after the first of the others."""
    policy, prompts = make_policy(twin("gpt2")), make_prompts(4)
    whole = rolled(policy, prompts, 6, budget=8)
    ids = whole.answers.text.ids
    end = int(ids[whole.answers.text.mask.bool()].mode().values)
    cut = rolled(replace(policy, ends=(end,)), prompts, 6, budget=8)
    assert end != policy.eos and (ids == end).any()
    for row in range(len(ids)):
        length = int(whole.answers.text.mask[row].sum())
        written = ids[row, :length].tolist()
        stop = written.index(end) + 1 if end in written else length
        found = int(cut.answers.text.mask[row].sum())
        assert cut.answers.text.ids[row, :found].tolist() == written[:stop]
        assert bool(cut.answers.truncated[row]) == (written[stop - 1] not in (end, policy.eos))


@pytest.mark.parametrize(
    ("named", "ends"), [(None, ()), (2, ()), (5, (5,)), ([2, 7, 5, 10**6], (5, 7))]
)
def test_the_ends_are_those_of_the_generation_config(named: Any, ends: tuple[int, ...]) -> None:
    tokenizer = character_tokenizer()
    markers = add_markers(tokenizer)
    assert markers.eos == 2
    model = twin("gpt2", vocabulary=len(tokenizer))
    model.generation_config = GenerationConfig(eos_token_id=named)
    assert Backbone(model, tokenizer, markers).ends == ends


class Appending:
    """A tokenizer that puts a beginning before and an end of text behind every text."""

    def __init__(self, before: int, behind: int) -> None:
        self.inner = character_tokenizer()
        self.before, self.behind = [1] * before, [2] * behind

    def __call__(self, text: Any, add_special_tokens: bool = True) -> dict[str, Any]:
        ids = self.inner(text, add_special_tokens=False)["input_ids"]
        if not add_special_tokens:
            return {"input_ids": ids}
        if isinstance(text, str):
            return {"input_ids": [*self.before, *ids, *self.behind]}
        return {"input_ids": [[*self.before, *row, *self.behind] for row in ids]}


@pytest.mark.parametrize(("before", "behind"), [(0, 0), (1, 0), (0, 1), (1, 1), (2, 2)])
def test_no_end_of_text_stands_between_question_and_marker(before: int, behind: int) -> None:
    template = Template(question_end="", step_end="", answer_start="#")
    layout = Layout(Appending(before, behind), LAYOUT.markers, template, True)
    item = Item("1+2=", (), "3")
    bare = character_tokenizer()("1+2=", add_special_tokens=False)["input_ids"]
    expected = (*[1] * before, *bare, LAYOUT.markers.start)
    assert layout.prompt(item).ids == layout.prompts([item])[0].ids == expected
    assert torch.tensor(expected).numel() == len(bare) + before + 1
