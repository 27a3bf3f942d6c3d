"""Every published data set: tiny files in its layout, the hub replaced, and the published files."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
from datasets.packaged_modules.json.json import Json

from latentbench.config import plugins
from latentbench.data._published import Edition, File, Published
from latentbench.data._rows import boxed, gold
from latentbench.errors import InputError
from latentbench.records import Item, Template
from latentbench.reward.exact_number import canonical

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the published files are not here")

LOGIC = {
    "question": "Every a is a b. Tom is a a. Is Tom a b or c?",
    "steps": ["Tom is a a.", "Every a is a b."],
    "answer": "Tom is a b.",
    "edges": [[0, 1]],
}
TRUTH = {**LOGIC, "question": "Every a is a b. True or false: Tom is a b.", "answer": "True"}
SOUND = b"[" + json.dumps(LOGIC).encode()
GPQA = {
    "Question": "Which?\n",
    "Correct Answer": "gold, pure",
    "Incorrect Answer 1": "lead",
    "Incorrect Answer 2": "tin ",
    "Incorrect Answer 3": "zinc\n",
}
# The order of the options: by the blake2b hash of question and option, worked out apart.
# One row in the published layout of the file that holds the test split, and what is read from it.
ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "gsm_hard": (
        {"input": "How many eggs?", "code": "raise SystemExit", "target": -9867630.0},
        "How many eggs?",
        "-9867630",
    ),
    "gsm_plus": (
        {"question": "How many?", "answer": "2.5", "perturbation_type": "digit expansion"},
        "How many?",
        "2.5",
    ),
    "svamp": (
        {"ID": "chal-1", "Body": "A pack costs 76 ", "Question": "How much?", "Answer": 51.0},
        "A pack costs 76 How much?",
        "51",
    ),
    "multiarith": ({"input": "How many?", "target": 39}, "How many?", "39"),
    "asdiv_a": (
        {"Body": "Ellen has six. ", "Question": "How many? ", "Answer": "14  (seats)"},
        "Ellen has six. How many?",
        "14",
    ),
    "math500": ({"problem": "Where?", "answer": "\\frac{1}{2}"}, "Where?", "\\frac{1}{2}"),
    "aime2024": ({"problem": "Find $n$.", "answer": "073", "url": "x"}, "Find $n$.", "073"),
    "aime2025": ({"problem": "Find $n$.", "answer": 70, "id": "0"}, "Find $n$.", "70"),
    "amc23": ({"problem": "What area?", "answer": 27.0}, "What area?", "27"),
    "minerva_math": (
        {"problem": "How wide?", "solution": "So $\\boxed{\\frac{1}{2}} \\mathrm{~cm}$."},
        "How wide?",
        "\\frac{1}{2}",
    ),
    "olympiadbench": (
        {"question": "Which?", "final_answer": ["$69$,$84$"], "unit": None},
        "Which?",
        "69,84",
    ),
    "gpqa": (
        GPQA,
        "Which?\n(A) zinc\n(B) gold, pure\n(C) lead\n(D) tin",
        "B",
    ),
    "prosqa": (LOGIC, str(LOGIC["question"]), "Tom is a b."),
    "prontoqa": (TRUTH, str(TRUTH["question"]), "True"),
    "dapo_math": ({"prompt": "In triangle ABC?", "solution": "34"}, "In triangle ABC?", "34"),
}
ARRAYS = ("prosqa", "prontoqa")


def plugin(name: str) -> Any:
    return plugins.plugin("data", name)


def sets() -> list[str]:
    """Every published data set, found in the package: a new one without a row above fails here."""
    found = (name for name in plugins.plugin_names("data"))
    return [name for name in found if issubclass(plugin(name) or object, Published)]


def content(file: File, rows: list[dict[str, Any]]) -> bytes:
    if file.name.endswith(".csv"):
        quoted = [[str(value).replace('"', '""') for value in row.values()] for row in rows]
        lines = [",".join(rows[0]), *(",".join(f'"{v}"' for v in row) for row in quoted)]
        return ("\n".join(lines) + "\n").encode()
    if file.name.endswith(".json"):
        return json.dumps(rows).encode()
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write(root: Path, file: File, data: bytes) -> Path:
    path = root / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def others(name: str, root: Path) -> list[str]:
    """The digests of the set's other files, each written with one row of another question."""
    digests = []
    for file in plugin(name)().chosen_files()[:-1]:
        if file.optional:
            continue
        row = {**ROWS[name][0], "question": f"Another, {file.split}?"}
        digests.append(digest(write(root, file, content(file, [row]))))
    return digests


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(task: Any) -> str:
    with pytest.raises(InputError) as caught:
        task.load()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_set_has_a_row_here() -> None:
    assert sorted(ROWS) == sets()


@pytest.mark.parametrize("name", ROWS)
def test_a_row_in_the_published_layout_is_read(name: str, tmp_path: Path) -> None:
    row, question, answer = ROWS[name]
    accepted = others(name, tmp_path)
    file = plugin(name)().chosen_files()[-1]
    path = write(tmp_path, file, content(file, [row]))
    task = plugin(name)(root=str(tmp_path), sha256=[*accepted, digest(path)])
    splits = task.load()
    entry = splits.provenance["files"][file.name]
    assert (entry["edition"], entry["checked"], entry["rows"]) == ("unknown", "nothing", 1)
    items = [*splits.train, *splits.test]
    assert [(item.question, item.answer) for item in items] == [(question, answer)]
    assert splits.provenance["files"][file.name]["sha256"] == digest(path)
    assert str(tmp_path) not in json.dumps(splits.provenance)
    assert task.place_of(items[0]) == f"{path}:1"
    assert task.template == Template() and task.name == name
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert task.load() == splits


@pytest.mark.parametrize("name", [name for name in ROWS if name != "dapo_math"])
def test_a_changed_file_is_named_with_its_digest_and_the_way_out(name: str, tmp_path: Path) -> None:
    accepted = others(name, tmp_path)
    file = plugin(name)().chosen_files()[-1]
    path = write(tmp_path, file, content(file, [ROWS[name][0]]))
    message = refused(plugin(name)(root=str(tmp_path), sha256=accepted))
    assert message.startswith(str(path)) and "not the published file" in message
    assert f"data={name} data.sha256=[{digest(path)}]" in message
    assert str(file.editions[0].rows) in message


@pytest.mark.parametrize("name", ROWS)
def test_a_broken_row_is_named_with_file_and_row(name: str, tmp_path: Path) -> None:
    accepted = others(name, tmp_path)
    file = plugin(name)().chosen_files()[-1]
    good = ROWS[name][0]
    lacking = {**good, "Question": " "} if name == "gpqa" else dict(list(good.items())[:1])
    path = write(tmp_path, file, content(file, [good, lacking, good]))
    message = refused(plugin(name)(root=str(tmp_path), sha256=[*accepted, digest(path)]))
    assert message.startswith(f"{path}:2: "), message
    if file.name.endswith((".csv", ".json")):
        return
    broken = b'{"input": \n'
    path.write_bytes(content(file, [good]) + broken + content(file, [good]))
    message = refused(plugin(name)(root=str(tmp_path), sha256=[digest(path)]))
    assert message.startswith(f"{path}:2: not JSON")


@pytest.mark.parametrize(
    ("data", "place", "said"),
    [
        (SOUND + b', {"question": ]', 2, "not JSON"),
        (b"[1]", 1, "not a JSON object"),
        (SOUND + b' {"a": 2}]', 1, "neither ',' nor ']'"),
        (SOUND, 1, "neither ',' nor ']'"),
        (b'[{"a": 1}', 1, "field 'question'"),
        (SOUND + b'] {"b": 2} trash', None, "after the end of the array"),
        (b'["\xff"]', None, "not UTF-8"),
    ],
)
def test_a_broken_array_is_named_by_its_element(
    data: bytes, place: int | None, said: str, tmp_path: Path
) -> None:
    for file in plugin("prosqa").files[1:]:
        write(tmp_path, file, data)
    path = tmp_path / "prosqa" / "valid.json"
    message = refused(plugin("prosqa")(root=str(tmp_path), sha256=[digest(path)]))
    assert message.startswith(f"{path}:{place}: " if place else str(path)) and said in message


def test_a_broken_csv_row_is_named(tmp_path: Path) -> None:
    (file,) = plugin("gpqa")().chosen_files()
    sound = content(file, [GPQA, GPQA])
    path = write(tmp_path, file, sound + b'"open, and, never "closed"\n')
    message = refused(plugin("gpqa")(root=str(tmp_path), sha256=[digest(path)]))
    assert message.startswith(f"{path}:3: not a sound CSV row")
    write(tmp_path, file, sound + b"\xff")
    message = refused(plugin("gpqa")(root=str(tmp_path), sha256=[digest(path)]))
    assert message.startswith(f"{path}: not UTF-8")


@pytest.mark.parametrize("name", ROWS)
def test_missing_files_and_directories_say_where_they_are_from(name: str, tmp_path: Path) -> None:
    file = next(file for file in plugin(name)().chosen_files() if not file.optional)
    message = refused(plugin(name)(root=str(tmp_path)))
    assert message.startswith(f"{tmp_path / file.name}: no such file") and file.origin in message
    message = refused(plugin(name)(root=str(tmp_path / "nowhere")))
    assert "no such directory" in message and file.name in message


def test_a_set_is_recognised_by_its_digest_or_else_by_its_rows(tmp_path: Path) -> None:
    """A full file, whose digest is not known, is taken by its number of rows, and says so."""
    (file,) = plugin("svamp").files
    row = ROWS["svamp"][0]
    rows = [{**row, "Question": f"How much in week {week}?"} for week in range(1000)]
    write(tmp_path, file, content(file, rows))
    entry = plugin("svamp")(root=str(tmp_path)).load().provenance["files"][file.name]
    assert (entry["edition"], entry["checked"], entry["rows"]) == ("full", "rows", 1000)
    write(tmp_path, file, content(file, rows[:-1]))
    message = refused(plugin("svamp")(root=str(tmp_path)))
    assert "with 999 rows" in message and "full: 1000 rows, 70 % subset: 700 rows" in message
    # 700 rows of other content are not the subset, whose digest is known.
    write(tmp_path, file, content(file, rows[:700]))
    assert "not the published file" in refused(plugin("svamp")(root=str(tmp_path)))
    # The published array is the same data set as its rows one by one.
    path = write(tmp_path, file, json.dumps(rows).encode())
    assert len(plugin("svamp")(root=str(tmp_path)).load().test) == 1000
    assert path.read_bytes()[:1] == b"["


def test_of_rows_with_one_question_the_first_counts(tmp_path: Path) -> None:
    (file,) = plugin("multiarith").files
    rows = [
        {"input": "A?", "target": 1},
        {"input": "B?", "target": 2},
        {"input": "A? ", "target": 1},
        {"input": "B?", "target": 3},
    ]
    path = write(tmp_path, file, content(file, rows))
    splits = plugin("multiarith")(root=str(tmp_path), sha256=[digest(path)]).load()
    assert splits.test == [Item("A?", (), "1"), Item("B?", (), "2")]
    assert len({item.uid for item in splits.test}) == 2
    dropped = splits.provenance["dropped"]
    assert (dropped["repeated"], dropped["repeated with another answer"]) == (2, 1)


def test_gsm_plus_leaves_out_what_has_no_answer_and_counts_it(tmp_path: Path) -> None:
    (file,) = plugin("gsm_plus").files
    lacking = {"question": "Why?", "answer": "None", "perturbation_type": "critical thinking"}
    path = write(tmp_path, file, content(file, [ROWS["gsm_plus"][0], lacking]))
    splits = plugin("gsm_plus")(root=str(tmp_path), sha256=[digest(path)]).load()
    assert len(splits.test) == 1 and splits.provenance["dropped"]["no question"] == 1


def test_line_separators_inside_a_row_do_not_cut_it(tmp_path: Path) -> None:
    (file,) = plugin("math500").files
    path = write(tmp_path, file, '{"problem": "a\u2028b\x85c?", "answer": "1"}\n'.encode())
    (item,) = plugin("math500")(root=str(tmp_path), sha256=[digest(path)]).load().test
    assert item.question == "a\u2028b\x85c?"


def test_the_options_of_gpqa_stand_in_an_order_of_their_own(tmp_path: Path) -> None:
    """The same whichever way the file orders them, and the right one in every place."""
    (file,) = plugin("gpqa")().chosen_files()
    rows = [{**GPQA, "Question": f"Which of {number}?"} for number in range(200)]
    turned = [{**row, "Incorrect Answer 1": "zinc", "Incorrect Answer 3": "lead"} for row in rows]
    loaded = []
    for given in (rows, turned):
        path = write(tmp_path, file, content(file, given))
        loaded.append(plugin("gpqa")(root=str(tmp_path), sha256=[digest(path)]).load().test)
    assert loaded[0] == loaded[1]
    for item in loaded[0]:
        assert f"\n({item.answer}) gold, pure" in item.question
    letters = [item.answer for item in loaded[0]]
    assert all(30 <= letters.count(letter) <= 70 for letter in "ABCD")


def test_both_samples_of_prontoqa_answer_true_or_false(tmp_path: Path) -> None:
    file = plugin("prontoqa")(sample="logic_lm").chosen_files()[0]
    row = {
        "context": "Each a is a b.",
        "question": "Is the following statement true or false? Max is a b.",
        "options": ["A) True", "B) False"],
        "answer": "B",
        "explanation": ["Max is a b."],
    }
    path = write(tmp_path, file, json.dumps([row]).encode())
    task = plugin("prontoqa")(root=str(tmp_path), sample="logic_lm", sha256=[digest(path)])
    question = "Each a is a b. Is the following statement true or false? Max is a b."
    assert task.load().test == [Item(question, ("Max is a b.",), "False")]
    path.write_text(json.dumps([{**row, "answer": "C"}]))
    task = plugin("prontoqa")(root=str(tmp_path), sample="logic_lm", sha256=[digest(path)])
    assert refused(task).startswith(f"{path}:1: answer 'C'")


def test_prosqa_trains_only_where_its_training_file_is(tmp_path: Path) -> None:
    """Under the name of the official repository too, whose folder is then `data.root`."""
    rows = [{**LOGIC, "question": f"Is Tom {split}?"} for split in ("train", "valid", "test")]
    for split, row in zip(("valid", "test"), rows[1:], strict=True):
        (tmp_path / f"prosqa_{split}.json").write_text(json.dumps([row]))
    digests = [digest(path) for path in sorted(tmp_path.iterdir())]
    task = plugin("prosqa")(root=str(tmp_path), sha256=digests)
    assert len(task.load().train) == 0
    (tmp_path / "prosqa_train.json").write_text(json.dumps(rows[:1]))
    splits = task.load()
    assert [item.question for item in splits.train] == ["Is Tom train?"]
    assert splits.train[0].steps == ("Tom is a a.", "Every a is a b.")
    (tmp_path / "prosqa_train.json").write_text(
        json.dumps([{**rows[2], "question": "is tom TEST?"}])
    )
    assert "train (train) and test (test) have 1 questions in common" in refused(task)


def test_one_split_needs_no_other_file(tmp_path: Path) -> None:
    """Where only the test file is, it can be tested on; its items are those of the whole set."""
    file = plugin("prosqa")().chosen_files()[-1]
    path = write(tmp_path, file, content(file, [LOGIC]))
    task = plugin("prosqa")(root=str(tmp_path), sha256=[digest(path)])
    splits = task.load(["test"])
    assert [item.question for item in splits.test] == [LOGIC["question"]]
    assert not splits.train and not splits.validation
    assert list(splits.provenance["files"]) == [file.name]
    assert "valid.json: no such file" in refused(task)


def test_dapo_math_holds_out_by_content(tmp_path: Path) -> None:
    (file,) = plugin("dapo_math").files
    rows = [{"prompt": f"What is {n}?", "solution": str(n)} for n in range(2000)]
    write(tmp_path, file, content(file, rows))
    one, more = (plugin("dapo_math")(root=str(tmp_path), held_out=s).load() for s in (0.1, 0.2))
    sizes = [len(one.train), len(one.validation), len(one.test)]
    assert sum(sizes) == 2000 and 1750 < sizes[0] < 1850 and abs(sizes[1] - sizes[2]) < 40
    for split in ("validation", "test"):
        assert set(getattr(one, split)) < set(getattr(more, split))
    write(tmp_path, file, content(file, rows[::-2]))
    half = plugin("dapo_math")(root=str(tmp_path)).load()
    assert set(half.validation) <= set(one.validation) and set(half.test) <= set(one.test)
    alone = plugin("dapo_math")(root=str(tmp_path)).load(["test"])
    assert alone.test == half.test and not alone.train and not alone.validation


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: plugin("gpqa")(subset="all"), "data.subset=all: choose one of diamond, main"),
        (lambda: plugin("prontoqa")(sample="x"), "data.sample=x: choose one of coconut, logic_lm"),
        (lambda: plugin("dapo_math")(held_out=1.0), "data.held_out=1.0: a share lies in (0, 1)"),
        (lambda: plugin("gsm8k")(steps="nl"), "data.steps=nl: choose formula or words"),
    ],
)
def test_bad_knobs_are_named(build: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        build()


# -- the hub --------------------------------------------------------------------------------------

HUB_ROWS: dict[str, dict[str, Any]] = {
    "multiarith": {"question": "How many?", "final_ans": "39"},
    "asdiv_a": {"question": "Ellen has six. How many?", "result": "14"},
    "aime2024": {"problem": "Find $n$.", "solution": "It is $\\boxed{073}$."},
    "minerva_math": {"question": "How wide?", "answer": "\\frac{1}{2}"},
    "amc23": {"question": "What area?", "answer": "27.0"},
}
ON_HUB = [name for name in ROWS if name not in ("prosqa", "prontoqa")]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The hub replaced: what it was asked, and the rows, the commit or the error that it gives."""
    state: dict[str, Any] = {"asked": [], "rows": [], "error": None, "commit": None}

    def load_dataset_builder(hub: str, config: str | None, revision: str) -> Any:
        def as_dataset(split: str) -> list[dict]:
            state["asked"].append((hub, config, split, revision))
            if state["error"] is not None:
                raise state["error"]
            return state["rows"]

        return SimpleNamespace(
            hash=state["commit"] or revision,
            download_and_prepare=lambda: None,
            as_dataset=as_dataset,
        )

    monkeypatch.setattr(datasets, "load_dataset_builder", load_dataset_builder)
    yield state


@pytest.mark.parametrize("name", ON_HUB)
def test_the_hub_gives_the_same_items_at_the_pinned_revision(
    name: str, hub: dict[str, Any]
) -> None:
    row, question, answer = ROWS[name]
    task = plugin(name)()
    (part,) = task.chosen_hub_splits()
    hub["rows"] = [HUB_ROWS.get(name, row)] * part.rows
    splits = task.load()
    items = [*splits.train, *splits.validation, *splits.test]
    assert [(item.question, item.answer) for item in items] == [(question, answer)]
    assert hub["asked"] == [(task.hub, part.config, part.hub_split, task.revision)]
    (entry,) = splits.provenance["files"].values()
    assert entry == {"revision": task.revision, "commit": task.revision, "rows": part.rows}
    assert splits.provenance["dropped"]["repeated"] == part.rows - 1


# No commit of these is known to us; docs/benchmarks.md names them.
UNPINNED = {("gsm8k", "aug_revision"), ("gsm8k", "words_revision")}


def test_the_default_revisions_are_commits_but_for_those_named() -> None:
    """Of every set that is on the hub; a set that is not has no revision to speak of."""
    found = {
        (name, field.name): field.default
        for name in plugins.plugin_names("data")
        for field in dataclasses.fields(plugin(name))
        if field.name.endswith("revision") and (name == "gsm8k" or plugin(name)().hub)
    }
    unpinned = {key for key, value in found.items() if value == "main"}
    assert unpinned == UNPINNED and len(found) > 14
    commits = [str(value) for key, value in found.items() if key not in unpinned]
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in commits)
    page = (Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md").read_text()
    assert all(f"`data.{key}`" in page for _, key in unpinned)


def test_a_branch_is_recorded_with_the_commit_that_was_read(hub: dict[str, Any]) -> None:
    hub["rows"] = [HUB_ROWS["multiarith"]] * 600
    hub["commit"] = "abcde01234" * 4
    (entry,) = plugin("multiarith")(revision="main").load().provenance["files"].values()
    assert entry == {"revision": "main", "commit": hub["commit"], "rows": 600}


def test_a_cache_of_another_commit_is_not_taken_for_the_one_asked_for(hub: dict[str, Any]) -> None:
    hub["rows"] = [HUB_ROWS["multiarith"]] * 600
    hub["commit"] = "abcde01234" * 4
    message = refused(plugin("multiarith")())
    assert plugin("multiarith").revision in message and hub["commit"] in message


def test_the_real_cache_knows_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library itself, offline: a set that was fetched before, at a commit in its folder name.

    The library's own fallback takes what is there for whatever revision was asked for.
    """
    commit = "0123456789" * 4
    (tmp_path / "test.jsonl").write_text('{"problem": "Where?", "answer": "1"}\n' * 500)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    cache = tmp_path / "cache"
    rows = {"test": str(tmp_path / "test.jsonl")}
    Json(data_files=rows, cache_dir=str(cache), hash=commit).download_and_prepare()
    (made,) = cache.glob(f"json/*/*/{commit}")
    kept = cache / "HuggingFaceH4___math-500" / "default" / made.parent.name
    kept.mkdir(parents=True)
    made.rename(kept / commit)
    next(kept.glob("*/*.arrow")).rename(kept / commit / "math-500-test.arrow")
    (entry,) = plugin("math500")(revision=commit).load().provenance["files"].values()
    assert entry == {"revision": commit, "commit": commit, "rows": 500}
    (entry,) = plugin("math500")(revision="main").load().provenance["files"].values()
    assert entry == {"revision": "main", "commit": commit, "rows": 500}
    assert f"which holds {commit}" in refused(plugin("math500")())


@pytest.mark.parametrize("name", ON_HUB)
def test_a_set_that_changed_on_the_hub_is_named(name: str, hub: dict[str, Any]) -> None:
    task = plugin(name)()
    (part,) = task.chosen_hub_splits()
    hub["rows"] = [HUB_ROWS.get(name, ROWS[name][0])]
    message = refused(task)
    assert message.startswith(f"{task.hub}/") and f"published were {part.rows}" in message
    assert "data.revision" in message and "data.root=<directory>" in message


def test_a_gated_set_says_how_to_get_access(hub: dict[str, Any]) -> None:
    hub["error"] = datasets.exceptions.DatasetNotFoundError(
        "Dataset 'Idavidrein/gpqa' is a gated dataset on the Hub. You must be authenticated."
    )
    message = refused(plugin("gpqa")())
    assert "https://huggingface.co/datasets/Idavidrein/gpqa" in message
    assert "accept its terms" in message and "HF_TOKEN" in message
    assert "gpqa/gpqa_diamond.csv" in message
    assert hub["asked"] == [("Idavidrein/gpqa", "gpqa_diamond", "train", plugin("gpqa").revision)]


def test_an_unreachable_hub_points_to_local_files(hub: dict[str, Any]) -> None:
    hub["error"] = ConnectionError("no\nroute")
    message = refused(plugin("svamp")())
    assert "ChilleD/SVAMP" in message and "ConnectionError: 'no'" in message
    assert "data.root=<directory> with svamp/test.jsonl" in message


@pytest.mark.parametrize("name", ["prosqa", "prontoqa"])
def test_what_is_not_on_the_hub_says_so(name: str, hub: dict[str, Any]) -> None:
    message = refused(plugin(name)())
    assert "not on the hub" in message and f"{name}/test.json" in message and not hub["asked"]


def test_digests_are_of_files_alone(hub: dict[str, Any]) -> None:
    message = refused(plugin("svamp")(sha256=["0" * 64]))
    assert message.startswith("data.sha256=") and "data.root=<directory>" in message
    assert not hub["asked"]


def test_logic_lm_is_on_the_hub(hub: dict[str, Any]) -> None:
    row = {"context": "Each a is a b.", "question": "True or false?", "answer": "A"}
    hub["rows"] = [{**row, "context": f"Each a is a {n}."} for n in range(500)]
    splits = plugin("prontoqa")(sample="logic_lm").load()
    assert len(splits.test) == 500 and splits.test[0].answer == "True"


# -- golds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "spelt"),
    [
        (27.0, "27"),
        ("27.0", "27"),
        (-1.0, "-1"),
        (2944533.5, "2944533.5"),
        (1e22, "10000000000000000000000"),
        (2518759.68, "2518759.68"),
        (39, "39"),
        (100.0, "100"),
        (" 073 ", "073"),
        ("2/5", "2/5"),
    ],
)
def test_numbers_become_plain_decimals(value: Any, spelt: str) -> None:
    assert gold({"answer": value}, "here:1", "answer") == spelt


@pytest.mark.parametrize("value", [None, True, [1], float("nan"), float("inf")])
def test_what_is_no_answer_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^here:1: field 'answer'"):
        gold({"answer": value}, "here:1", "answer")


@pytest.mark.parametrize(
    ("solution", "inside"),
    [
        ("$\\boxed{10.1}.$", "10.1"),
        ("\\boxed{1} and \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
        ("\\boxed{a \\\\ {b}} }", "a \\\\ {b}"),
    ],
)
def test_the_last_box_of_a_solution(solution: str, inside: str) -> None:
    assert boxed(solution, "here:1") == inside


@pytest.mark.parametrize("solution", ["no box", "\\boxed{1", "\\boxed 1", ""])
def test_a_solution_without_a_whole_box_is_refused(solution: str) -> None:
    with pytest.raises(InputError, match=r"^here:1: no complete \\boxed"):
        boxed(solution, "here:1")


def test_an_edition_is_its_digest_first() -> None:
    editions = (Edition(2, None, "full"), Edition(1, "aa", "part"))
    file = File("f", "test", "o", lambda row, where: None, editions)
    assert file.edition("aa", 5) is editions[1]
    assert file.edition("bb", 2) is editions[0]
    assert file.edition("bb", 1) is None


# -- the published files --------------------------------------------------------------------------

# Sizes of train, validation and test; the answers of the first and the last test item.
KNOWN: dict[str, tuple[list[int], str, str]] = {
    "gsm_hard": ([0, 0, 923], "-9867630", "2180"),
    "svamp": ([0, 0, 700], "51", "11"),
    "multiarith": ([0, 0, 407], "39", "2"),
    "asdiv_a": ([0, 0, 853], "15", "22"),
    "math500": ([0, 0, 500], "\\left( 3, \\frac{\\pi}{2} \\right)", "106^\\circ"),
    "aime2024": ([0, 0, 30], "204", "902"),
    "aime2025": ([0, 0, 30], "70", "240"),
    "amc23": ([0, 0, 40], "27", "8"),
    "minerva_math": ([0, 0, 272], "1.6", "10.1"),
    "olympiadbench": ([0, 0, 675], "2", "11"),
    "prosqa": ([0, 300, 500], "Sally is a sterpus.", "Jack is a brimpus."),
    "prontoqa": ([0, 200, 800], "False", "True"),
}


@needs_shared
@pytest.mark.parametrize("name", KNOWN)
def test_the_published_files(name: str) -> None:
    sizes, first, last = KNOWN[name]
    splits = plugin(name)(root=str(SHARED)).load()
    assert [len(splits.train), len(splits.validation), len(splits.test)] == sizes
    assert (splits.test[0].answer, splits.test[-1].answer) == (first, last)
    sums = (SHARED / "SHA256SUMS.raw").read_text().split()
    for file, entry in splits.provenance["files"].items():
        assert sums[sums.index(file) - 1] == entry["sha256"] and entry["checked"] == "sha256"
        part = name in ("gsm_hard", "svamp", "multiarith", "asdiv_a")
        assert entry["edition"] == ("70 % subset" if part else "as published")
    repeated = splits.provenance["dropped"]["repeated"]
    assert repeated == (13 if name == "multiarith" else 0)
    assert splits.provenance["dropped"]["repeated with another answer"] == 0
    if plugin(name).grader in ("exact_number", "tolerance") or name in ("aime2024", "amc23"):
        assert all(canonical(item.answer, at_start=True) for item in splits.test)


@needs_shared
def test_the_published_logic_questions() -> None:
    splits = plugin("prosqa")(root=str(SHARED)).load()
    items = [*splits.validation, *splits.test]
    assert {len(item.steps) for item in items} == {3, 4, 5, 6}
    assert all(item.question.endswith("?") for item in items)
    splits = plugin("prontoqa")(root=str(SHARED)).load()
    assert {len(item.steps) for item in [*splits.validation, *splits.test]} == {6}
    truths = [
        sum(item.answer == "True" for item in part) for part in (splits.validation, splits.test)
    ]
    assert truths == [89, 397]
    test = plugin("prontoqa")(root=str(SHARED), sample="logic_lm").load().test
    assert (len(test), sum(item.answer == "True" for item in test)) == (500, 258)


@needs_shared
def test_several_answers_stand_in_one_gold() -> None:
    test = plugin("olympiadbench")(root=str(SHARED)).load().test
    assert "(1,8,19), (2,7,13), (4,5,7)" in {item.answer for item in test}
    assert "69,84" in {item.answer for item in test}
    assert not any("$" in item.answer for item in test)


@needs_shared
def test_gsm8k_with_steps_in_words() -> None:
    splits = plugin("gsm8k")(root=str(SHARED), steps="words").load()
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [6973, 500, 1319]
    assert splits.train[0].steps == (
        "The annual budget for policing is 32 / 2 = $16 million.",
        "The combined budget for education and policing is 16 + 12 = $28 million.",
        "There is 32 - 28 = $4 million to manage public spaces.",
    )
    assert splits.test[0].steps[0] == "Janet sells 16 - 3 - 4 = 9 duck eggs a day."
    assert not any("<<" in step for item in [*splits.train, *splits.test] for step in item.steps)
    formula = plugin("gsm8k")(root=str(SHARED)).load()
    assert [(i.question, i.answer) for i in formula.test] == [
        (i.question, i.answer) for i in splits.test
    ]
    assert splits.train[0].answer == "4" and not any(item.steps for item in splits.validation)
    files = formula.provenance["files"].values()
    assert {entry["edition"] for entry in files} == {"as published"}


@needs_shared
def test_formula_files_are_refused_where_words_are_asked_for() -> None:
    name = "gsm8k_aug/train_part3000.txt"
    message = refused(plugin("gsm8k")(root=str(SHARED), steps="words", train_files=[name]))
    assert f"{name}.gz:1: steps are formulas" in message
