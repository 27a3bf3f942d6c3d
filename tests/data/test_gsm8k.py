from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import datasets
import pytest

from latentbench.data._files import digest, iterate_rows, locate, unpack
from latentbench.data._overlap import splits_digest
from latentbench.data.gsm8k import FULL_TRAIN, REDUCED_TRAIN, TEST, VALIDATION, Gsm8k, parse_line
from latentbench.errors import InputError
from latentbench.records import Item, Template

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the published files are not here")

TRAIN_ROW = "Two plus three?||<<2+3=5>> #### 5\n"
VALID_ROW = "Four plus one?||<<4+1=5>> #### 5\n"
TEST_ROW = json.dumps({"question": "Ten?", "answer": "It is <<5*2=10>>10.\n#### 1,010"}) + "\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in ((FULL_TRAIN, TRAIN_ROW), (VALIDATION, VALID_ROW), (TEST, TEST_ROW)):
        write(tmp_path / name, content)
    return tmp_path


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def refused(task: Gsm8k) -> str:
    with pytest.raises(InputError) as caught:
        task.load()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_three_files_are_read(root: Path) -> None:
    splits = Gsm8k(root=str(root)).load()
    assert splits.train == [Item("Two plus three?", ("<<2+3=5>>",), "5")]
    assert splits.validation == [Item("Four plus one?", ("<<4+1=5>>",), "5")]
    assert splits.test == [Item("Ten?", ("<<5*2=10>>",), "1010")]
    assert Gsm8k.template == Template("\n", "\n", "### ")


def test_plain_and_gzip_files_are_the_same_data(root: Path) -> None:
    plain = Gsm8k(root=str(root)).load()
    for name in (FULL_TRAIN, VALIDATION, TEST):
        content = (root / name).read_bytes()
        (root / name).unlink()
        write(root / f"{name}.gz", content)
    assert Gsm8k(root=str(root)).load() == plain


def test_provenance_names_files_relative_to_the_root(root: Path) -> None:
    splits = Gsm8k(root=str(root)).load()
    provenance = splits.provenance
    entry = provenance["files"][FULL_TRAIN]
    assert entry["sha256"] == digest(TRAIN_ROW.encode()) and entry["rows"] == 1
    assert entry["edition"] == "unknown"
    assert provenance["counts"] == {"train": 1, "validation": 1, "test": 1}
    assert provenance["digest"] == splits_digest(splits)
    assert "remark" not in provenance
    assert str(root) not in json.dumps(provenance)


@pytest.mark.parametrize(
    ("row", "item"),
    [
        ("Q?|| #### 16", Item("Q?", (), "16")),
        ("Q?||#### 16", Item("Q?", (), "16")),
        ("Q?||<<1/5=1/5>> <<1-3/5=2/5>> #### 2/5",
         Item("Q?", ("<<1/5=1/5>>", "<<1-3/5=2/5>>"), "2/5")),
        ("Q # 3?||<<a b=2>>  <<2=2>> #### -2,000",
         Item("Q # 3?", ("<<a b=2>>", "<<2=2>>"), "-2000")),
        ("a\u2028b?||<<1=1>> #### 18.", Item("a\u2028b?", ("<<1=1>>",), "18.")),
    ],
)  # fmt: skip
def test_legal_rows(row: str, item: Item) -> None:
    assert parse_line(row, "here:1") == item


def test_only_line_feeds_part_rows(root: Path) -> None:
    rows = "\ufeffa\u2028b\x0b?||<<1=1>> #### 1\r\nc?|| #### 2\n\n\n"
    write(root / FULL_TRAIN, rows)
    assert [item.question for item in Gsm8k(root=str(root)).load().train] == ["a\u2028b\x0b?", "c?"]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("no bars <<1=1>> #### 1", "no '||' in 'no bars"),
        ("", "no '||' in ''"),
        ("Q?||<<1=1>> 1", "no '####' in '<<1=1>> 1'"),
        ("Q?||<<1=1>> #### ", "the answer is empty"),
        ("Q?||<<1=1>> #### ,", "the answer is empty"),
        ("  ||<<1=1>> #### 1", "the question is empty"),
        ("Q?||in words 1+1=2 #### 2", "steps in words, not in <<...>>: 'in words"),
        ("x" * 500, "no '||' in 'xxx"),
    ],
)
@pytest.mark.parametrize("name", [FULL_TRAIN, VALIDATION])
def test_bad_text_rows_name_file_and_row(root: Path, name: str, row: str, found: str) -> None:
    good = (root / name).read_text()
    write(root / name, f"{good}{row}\nlast?|| #### 1\n")
    message = refused(Gsm8k(root=str(root)))
    assert message.startswith(f"{root / name}:2: ")
    assert found in message
    assert len(message) < len(str(root)) + 300


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ('{"question": "Q?", ', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"question": "Q?"}', "field 'answer' is 'None'"),
        ('{"question": 3, "answer": "#### 3"}', "field 'question' is '3'"),
        ('{"input": "Q?", "answer": "#### 3"}', "fields found: 'input, answer'"),
        ('{"question": "Q?", "answer": "3"}', "no '####' in '3'"),
        ('{"question": "Q?", "answer": "#### "}', "the answer is empty"),
        ('{"question": " ", "answer": "#### 3"}', "the question is empty"),
        ('{"question": "\\ud800?", "answer": "#### 3"}', "half a surrogate pair"),
    ],
)
def test_bad_json_rows_name_file_and_row(root: Path, row: str, found: str) -> None:
    write(root / TEST, f"{TEST_ROW}{row}\n")
    message = refused(Gsm8k(root=str(root)))
    assert message.startswith(f"{root / TEST}:2: ")
    assert found in message


def test_text_that_is_not_utf8_names_the_row(root: Path) -> None:
    write(root / FULL_TRAIN, TRAIN_ROW.encode() + b"caf\xe9?|| #### 1\n")
    message = refused(Gsm8k(root=str(root)))
    assert message.startswith(f"{root / FULL_TRAIN}:2: not UTF-8")
    assert "0xe9" in message


def test_broken_files_are_named(root: Path) -> None:
    (root / TEST).unlink()
    packed = root / f"{TEST}.gz"
    for content, found in (
        (gzip.compress(TEST_ROW.encode() * 500)[:-40], "cut short"),
        (TEST_ROW.encode(), "not a sound gzip"),
        (gzip.compress(TEST_ROW.encode())[:-8] + bytes(8), "not a sound gzip"),
        (gzip.compress(TEST_ROW.encode())[:10] + b"\x07" * 40, "not a sound gzip"),
        (gzip.compress(b""), "the file is empty"),
        (gzip.compress(b"\n \n"), "the file is empty"),
        (b"", "the file is empty"),
    ):
        packed.write_bytes(content)
        message = refused(Gsm8k(root=str(root)))
        assert message.startswith(str(packed)), message
        assert found in message


@pytest.mark.parametrize("name", [VALIDATION, TEST])
def test_missing_files_are_named(root: Path, name: str) -> None:
    (root / name).unlink()
    message = refused(Gsm8k(root=str(root)))
    assert message.startswith(f"{root / name}: no such file")
    assert FULL_TRAIN in message


def test_without_the_full_file_both_parts_are_needed(root: Path) -> None:
    (root / FULL_TRAIN).unlink()
    assert REDUCED_TRAIN[0] in refused(Gsm8k(root=str(root)))
    write(root / REDUCED_TRAIN[0], TRAIN_ROW + "Six?|| #### 6")
    assert f"{root / REDUCED_TRAIN[1]}: no such file" in refused(Gsm8k(root=str(root)))
    write(root / f"{REDUCED_TRAIN[1]}.gz", "Seven?|| #### 7\n" + TRAIN_ROW)
    splits = Gsm8k(root=str(root)).load()
    assert [item.question for item in splits.train] == ["Two plus three?", "Six?", "Seven?"]
    assert splits.provenance["dropped"] == {"repeated": 1, "overlap": 0}
    assert "not the 385620 rows" in splits.provenance["remark"]


def test_a_missing_root_says_what_it_should_hold(tmp_path: Path) -> None:
    message = refused(Gsm8k(root=str(tmp_path / "nowhere")))
    assert message.startswith(f"data.root={tmp_path / 'nowhere'}: no such directory")
    assert all(name in message for name in (FULL_TRAIN, *REDUCED_TRAIN, VALIDATION, TEST))


def test_train_files_override_the_choice(root: Path) -> None:
    write(root / "own" / "a.txt.gz", "A?|| #### 1")
    write(root / "own" / "b.jsonl", '{"question": "B?", "answer": "<<1+1=2>> #### 2"}')
    for names in (["own/a.txt", "own/b.jsonl"], ["own/a.txt.gz", "own/b.jsonl"]):
        splits = Gsm8k(root=str(root), train_files=names).load()
        assert splits.train == [Item("A?", (), "1"), Item("B?", ("<<1+1=2>>",), "2")]
        assert splits.provenance["train"] == names
    assert "own/c.txt: no such file" in refused(Gsm8k(root=str(root), train_files=["own/c.txt"]))


def test_bad_knobs_are_named() -> None:
    with pytest.raises(InputError, match=r"data\.train_files=\['a'\]: needs data\.root"):
        Gsm8k(train_files=["a"])
    with pytest.raises(InputError, match=r"data\.train_files: /a must be relative to data\.root"):
        Gsm8k(root="x", train_files=["/a"])


@pytest.mark.parametrize(
    ("name", "row", "named"),
    [
        (FULL_TRAIN, VALID_ROW, f"train ({FULL_TRAIN}) and validation ({VALIDATION})"),
        (FULL_TRAIN, "ten? || #### 10\n", f"train ({FULL_TRAIN}) and test ({TEST})"),
        (VALIDATION, "Ten?|| #### 10\n", f"validation ({VALIDATION}) and test ({TEST})"),
    ],
)
def test_overlap_is_an_error(root: Path, name: str, row: str, named: str) -> None:
    write(root / name, (root / name).read_text() + row)
    message = refused(Gsm8k(root=str(root)))
    assert message.startswith(f"{named} have 1 questions in common, e.g. ")


def test_overlap_can_be_dropped_from_training_alone(root: Path) -> None:
    write(root / FULL_TRAIN, TRAIN_ROW + VALID_ROW + "TEN?|| #### 10\n")
    splits = Gsm8k(root=str(root), drop_overlap=True).load()
    assert [item.question for item in splits.train] == ["Two plus three?"]
    assert splits.provenance["dropped"]["overlap"] == 2
    write(root / FULL_TRAIN, VALID_ROW)
    assert "every training question" in refused(Gsm8k(root=str(root), drop_overlap=True))


HUB = {
    ("whynlp/gsm8k-aug", "train"): [
        {"question": "A?", "steps": ["<<1+1=2>>", "<<2+0=2>>"], "answer": "1,002"}
    ],
    ("whynlp/gsm8k-aug", "validation"): [{"question": "B?", "steps": [], "answer": "2/5"}],
    ("openai/gsm8k", "test"): [{"question": "C?", "answer": "<<1*3=3>>3\n#### 3"}],
}


def test_the_hub_is_read_at_the_pinned_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(hub: str, config: str | None, split: str, revision: str) -> list[dict]:
        asked.append((hub, config, split, revision))
        return HUB[hub, split]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = Gsm8k(aug_revision="0123abc")
    splits = task.load()
    assert splits.train == [Item("A?", ("<<1+1=2>>", "<<2+0=2>>"), "1002")]
    assert splits.validation == [Item("B?", (), "2/5")]
    assert splits.test == [Item("C?", ("<<1*3=3>>",), "3")]
    assert asked == [
        ("whynlp/gsm8k-aug", None, "train", "0123abc"),
        ("whynlp/gsm8k-aug", None, "validation", "0123abc"),
        ("openai/gsm8k", "main", "test", task.test_revision),
    ]
    assert re.fullmatch("[0-9a-f]{40}", task.test_revision)
    assert splits.provenance["source"] == "hub"
    assert splits.provenance["files"]["openai/gsm8k/test"]["revision"] == task.test_revision


@pytest.mark.parametrize(
    "error", [ConnectionError("no\nroute"), ValueError(), RuntimeError("gated")]
)
def test_an_unreachable_hub_points_to_local_files(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    message = refused(Gsm8k())
    assert "whynlp/gsm8k-aug" in message
    assert "data.root=<directory>" in message
    assert VALIDATION in message and TEST in message


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"question": "A?", "answer": "1"}, "field 'steps'"),
        ({"question": "A?", "steps": "<<1=1>>", "answer": "1"}, "field 'steps'"),
        ({"task": "A?", "steps": [], "answer": "1"}, "field 'question'"),
    ],
)
def test_a_hub_set_with_other_columns_is_refused(
    monkeypatch: pytest.MonkeyPatch, row: dict, found: str
) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [row])
    message = refused(Gsm8k())
    assert message.startswith("whynlp/gsm8k-aug/train:1: ")
    assert found in message


def test_an_empty_hub_split_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [])
    assert "whynlp/gsm8k-aug/train at revision main has no rows" in refused(Gsm8k())


@needs_shared
def test_the_published_files() -> None:
    splits = Gsm8k(root=str(SHARED)).load()
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [9915, 500, 1319]
    assert splits.provenance["dropped"] == {"repeated": 58, "overlap": 0}
    assert len({item.uid for item in splits.train}) == 9915
    assert sum(not item.steps for item in splits.test) == 18
    assert sum(item.answer == "2/5" for item in splits.train) == 1
    rows = [*splits.train, *splits.validation, *splits.test]
    assert not any("," in item.answer or "##" in item.answer for item in rows)
    assert all(re.fullmatch(r"<<[^<>]+>>", step) for item in rows for step in item.steps)
    sums = (SHARED / "SHA256SUMS.raw").read_text().split()
    for name, entry in splits.provenance["files"].items():
        assert entry["sha256"] in sums, name


@needs_shared
def test_the_published_test_files_agree() -> None:
    """Two publications of the GSM8K test questions give the same answers, row by row."""
    path = locate(SHARED, "gsm8k_aug/test.txt")
    assert path is not None
    rows = [parse_line(text, str(n)) for n, text in iterate_rows(unpack(path), path)]
    official = Gsm8k(root=str(SHARED)).load().test
    assert [item.answer for item in rows] == [item.answer for item in official]


@needs_shared
def test_training_on_the_validation_questions_is_refused() -> None:
    message = refused(Gsm8k(root=str(SHARED), train_files=["gsm8k/train.jsonl"]))
    assert message.startswith(
        f"train (gsm8k/train.jsonl) and validation ({VALIDATION}) have 500 questions in common"
    )
    task = Gsm8k(root=str(SHARED), train_files=["gsm8k/train.jsonl"], drop_overlap=True)
    assert len(task.load().train) == 6973


@needs_shared
def test_the_file_with_steps_in_words_is_refused() -> None:
    name = "gsm8k_aug/train_no_aug_nl.txt"
    assert f"{name}.gz:1: steps in words" in refused(Gsm8k(root=str(SHARED), train_files=[name]))
