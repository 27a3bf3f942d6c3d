"""What the page holds for its script: the answers to all items, and where configs differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runs import Run
from ..study import Group, Study
from ..variants import config_values

if TYPE_CHECKING:
    import pandas as pd

_ITEM_BYTES = 3_800_000  # of answers in the page; their texts are cut until they fit
_CUTS = (4000, 600, 300, 150, 80, 40, 0)  # characters kept of an answer
QUESTIONS = "questions.parquet"
_QUESTION_CUT = 1000
_READ = ("benchmark", "item", "stage", "decode", "sample", "answer_text", "prediction", "gold")


def answers_of(study: Study, groups: Sequence[Group]) -> tuple[dict[str, Any], int | None]:
    """The answers to all items for the browser, and to how many characters they had to be cut.

    Equal answers and equal columns (an init that runs share) are stored once.
    """
    frames = {run.path: item_rows(run) for run in study.runs}
    questions = _questions(study)
    for cut in _CUTS:
        data = packed_items(study, groups, frames, questions, cut)
        if len(embedded(data).encode()) <= _ITEM_BYTES:
            break
    longest = max(
        (int(frame["answer_text"].str.len().max()) for frame in frames.values()), default=0
    )
    return data, (cut if longest > cut else None)


def item_rows(run: Run) -> pd.DataFrame:
    """One answer for each item and stage: greedy, or the first sample where nothing is greedy."""
    rows = run.items((*_READ, "correct"), decode="greedy")
    if rows.empty:
        rows = run.items((*_READ, "correct"))
        rows = rows.loc[rows["sample"] == 0]
    for column in ("answer_text", "prediction", "gold"):
        rows[column] = [value if isinstance(value, str) else None for value in rows[column]]
    return rows.assign(answer_text=rows["answer_text"].fillna("")).sort_values(by=["item"])


def _questions(study: Study) -> dict[tuple[str, str], str]:
    """The text of every item that a run of the study left, by benchmark and uid."""
    import pandas as pd

    texts: dict[tuple[str, str], str] = {}
    for run in study.runs:
        path = run.path / QUESTIONS
        if path.is_file():
            frame = pd.read_parquet(path, columns=["benchmark", "item", "question"])
            keys = zip(frame["benchmark"], frame["item"], strict=True)
            texts.update(zip(keys, frame["question"], strict=True))
    return texts


def packed_items(
    study: Study,
    groups: Sequence[Group],
    frames: Mapping[Path, pd.DataFrame],
    questions: Mapping[tuple[str, str], str],
    cut: int,
) -> dict[str, Any]:
    texts: dict[tuple[str, str | None], int] = {}
    columns: dict[str, int] = {}
    packed = []
    for group in groups:
        uids = study.outcomes(next(iter(group.rows.values()))[0], group.benchmark).items
        gold: list[str | None] = []
        rows = []
        for name, runs in group.rows.items():
            seeds = []
            for run in runs:
                frame = frames[run.path]
                own = frame.loc[frame["benchmark"] == group.benchmark]
                held = {
                    stage: _column(part, uids, cut, texts, columns)
                    for stage in ("init", "final")
                    if len(part := own.loc[own["stage"] == stage])
                }
                gold = gold or _aligned(own.loc[own["stage"] == "final"], uids, "gold")
                seeds.append({"seed": run.seed, **held})
            rows.append({"name": name, "runs": seeds})
        asked = [questions.get((group.benchmark, uid)) for uid in uids]
        packed.append(
            {
                "title": group.title,
                "items": list(uids),
                "questions": [text and text[:_QUESTION_CUT] for text in asked],
                "gold": gold,
                "rows": rows,
            }
        )
    answers = [[text, prediction] if text else [0, prediction] for text, prediction in texts]
    return {"groups": packed, "answers": answers, "columns": [json.loads(c) for c in columns]}


def _column(
    part: pd.DataFrame,
    uids: Sequence[str],
    cut: int,
    texts: dict[tuple[str, str | None], int],
    columns: dict[str, int],
) -> int:
    """The place of one run's answers at one stage in the list of columns; -1 stands for none."""
    where = {uid: line for line, uid in enumerate(part["item"])}
    said, read = part["answer_text"].tolist(), part["prediction"].tolist()
    grades = part["correct"].tolist()
    places, right = [], []
    for uid in uids:
        line = where.get(uid)
        if line is None:
            places.append(-1)
            right.append("0")
            continue
        text = said[line] if len(said[line]) <= cut else said[line][:cut] + "…"
        prediction = read[line] if isinstance(read[line], str) else None
        places.append(texts.setdefault((text, prediction), len(texts)))
        right.append("1" if grades[line] else "0")
    packed = json.dumps([places, "".join(right)])
    return columns.setdefault(packed, len(columns))


def _aligned(part: pd.DataFrame, uids: Sequence[str], column: str) -> list[str | None]:
    held = dict(zip(part["item"], part[column], strict=True))
    return [value if isinstance(value := held.get(uid), str) else None for uid in uids]


def configs_of(study: Study, place: Callable[[Path | str], str]) -> dict[str, Any]:
    """The config values in which any two runs differ, by key, and how many keys all share."""
    flat = [config_values(run) for run in in_order(study)]
    keys = sorted(set().union(*flat))
    differing = {}
    for key in keys:
        values = [config.get(key) for config in flat]
        if len(set(values)) > 1:
            differing[key] = values
    runs = [
        f"{study.names[run.path]}, seed {run.seed} ({place(run.path)})" for run in in_order(study)
    ]
    return {"runs": runs, "configs": differing, "shared": len(keys) - len(differing)}


def embedded(data: Mapping[str, Any]) -> str:
    """JSON that can end no script element, whatever a model wrote."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def in_order(study: Study) -> list[Run]:
    """Runs by row, seed and path."""
    return sorted(study.runs, key=lambda run: (study.names[run.path], run.seed, str(run.path)))
