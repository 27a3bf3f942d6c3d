from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest

import latentbench.data.gsm8k as gsm8k_module
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


def gsm8k(root: Path, **knobs: Any) -> Gsm8k:
    """With the small held-out files below `root` accepted for what they are."""
    found = (locate(root, name) for name in (VALIDATION, TEST))
    contents = (path.read_bytes() for path in found if path)
    accepted = [digest(gzip.decompress(c) if c[:2] == b"\x1f\x8b" else c) for c in contents]
    return Gsm8k(root=str(root), sha256=accepted, **knobs)


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
    splits = gsm8k(root).load()
    assert splits.train == [Item("Two plus three?", ("<<2+3=5>>",), "5")]
    assert splits.validation == [Item("Four plus one?", ("<<4+1=5>>",), "5")]
    assert splits.test == [Item("Ten?", ("<<5*2=10>>",), "1010")]
    assert Gsm8k.template == Template("\n", "\n", "### ")


def test_plain_and_gzip_files_are_the_same_data(root: Path) -> None:
    plain = gsm8k(root).load()
    for name in (FULL_TRAIN, VALIDATION, TEST):
        content = (root / name).read_bytes()
        (root / name).unlink()
        write(root / f"{name}.gz", content)
    assert gsm8k(root).load() == plain


def test_provenance_names_files_relative_to_the_root(root: Path) -> None:
    splits = gsm8k(root).load()
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
    assert [item.question for item in gsm8k(root).load().train] == ["a\u2028b\x0b?", "c?"]


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
    message = refused(gsm8k(root))
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
    message = refused(gsm8k(root))
    assert message.startswith(f"{root / TEST}:2: ")
    assert found in message


def test_text_that_is_not_utf8_names_the_row(root: Path) -> None:
    write(root / FULL_TRAIN, TRAIN_ROW.encode() + b"caf\xe9?|| #### 1\n")
    message = refused(gsm8k(root))
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
        message = refused(Gsm8k(root=str(root), sha256=[digest(VALID_ROW.encode())]))
        assert message.startswith(str(packed)), message
        assert found in message


@pytest.mark.parametrize("name", [VALIDATION, TEST])
def test_missing_files_are_named(root: Path, name: str) -> None:
    (root / name).unlink()
    message = refused(gsm8k(root))
    assert message.startswith(f"{root / name}: no such file")
    assert FULL_TRAIN in message


def test_without_the_full_file_both_parts_are_needed(root: Path) -> None:
    (root / FULL_TRAIN).unlink()
    assert REDUCED_TRAIN[0] in refused(gsm8k(root))
    write(root / REDUCED_TRAIN[0], TRAIN_ROW + "Six?|| #### 6")
    assert f"{root / REDUCED_TRAIN[1]}: no such file" in refused(gsm8k(root))
    write(root / f"{REDUCED_TRAIN[1]}.gz", "Seven?|| #### 7\n" + TRAIN_ROW)
    splits = gsm8k(root).load()
    assert [item.question for item in splits.train] == ["Two plus three?", "Six?", "Seven?"]
    assert splits.provenance["dropped"] == {
        "repeated": 1,
        "repeated with another answer": 0,
        "overlap": 0,
    }
    assert "not the 385620 rows" in splits.provenance["remark"]


def test_a_missing_root_says_what_it_should_hold(tmp_path: Path) -> None:
    message = refused(Gsm8k(root=str(tmp_path / "nowhere")))
    assert message.startswith(f"data.root={tmp_path / 'nowhere'}: no such directory")
    assert all(name in message for name in (FULL_TRAIN, *REDUCED_TRAIN, VALIDATION, TEST))


def test_train_files_override_the_choice(root: Path) -> None:
    write(root / "own" / "a.txt.gz", "A?|| #### 1")
    write(root / "own" / "b.jsonl", '{"question": "B?", "answer": "<<1+1=2>> #### 2"}')
    for names in (["own/a.txt", "own/b.jsonl"], ["own/a.txt.gz", "own/b.jsonl"]):
        splits = gsm8k(root, train_files=names).load()
        assert splits.train == [Item("A?", (), "1"), Item("B?", ("<<1+1=2>>",), "2")]
        assert splits.provenance["train"] == names
    assert "own/c.txt: no such file" in refused(gsm8k(root, train_files=["own/c.txt"]))


def test_bad_knobs_are_named() -> None:
    with pytest.raises(InputError, match=r"data\.train_files=\['a'\]: needs data\.root"):
        Gsm8k(train_files=["a"])
    with pytest.raises(InputError, match=r"data\.sha256=\['a'\]: is of files"):
        Gsm8k(sha256=["a"])
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
    message = refused(gsm8k(root))
    assert message.startswith(f"{named} have 1 questions in common, e.g. ")


def test_overlap_can_be_dropped_from_training_alone(root: Path) -> None:
    write(root / FULL_TRAIN, TRAIN_ROW + VALID_ROW + "TEN?|| #### 10\n")
    splits = gsm8k(root, drop_overlap=True).load()
    assert [item.question for item in splits.train] == ["Two plus three?"]
    assert splits.provenance["dropped"]["overlap"] == 2
    write(root / FULL_TRAIN, VALID_ROW)
    assert "every training question" in refused(gsm8k(root, drop_overlap=True))


COMMIT = "0123456789" * 4


class Hub:
    """The hub replaced: what it was asked for, and the rows, commit or error that it gives."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, str | None, str]] = []
        self.rows: dict[tuple[str, str], list[dict[str, Any]]] = {
            ("whynlp/gsm8k-aug", "train"): [
                {"question": f"A{n}?", "steps": ["<<1+1=2>>", "<<2+0=2>>"], "answer": "1,002"}
                for n in range(3)
            ],
            ("whynlp/gsm8k-aug", "validation"): [
                {"question": f"B{n}?", "steps": [], "answer": "2/5"} for n in range(500)
            ],
            ("openai/gsm8k", "test"): [
                {"question": f"C{n}?", "answer": "<<1*3=3>>3\n#### 3"} for n in range(1319)
            ],
        }
        self.error: Exception | None = None

    def builder(self, hub: str, config: str | None, revision: str) -> Any:
        def as_dataset(split: str) -> list[dict[str, Any]]:
            self.asked.append((hub, config, split, revision))
            if self.error is not None:
                raise self.error
            return self.rows[hub, split]

        commit = revision if re.fullmatch("[0-9a-f]{40}", revision) else COMMIT
        return SimpleNamespace(
            hash=commit, download_and_prepare=lambda: None, as_dataset=as_dataset
        )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub()
    monkeypatch.setattr(datasets, "load_dataset_builder", found.builder)
    # The published 385,620 rows would only be slow here.
    monkeypatch.setitem(gsm8k_module._HUB_ROWS, "whynlp/gsm8k-aug", 3)
    return found


def test_the_hub_is_read_at_the_pinned_revisions(hub: Hub) -> None:
    task = Gsm8k()
    splits = task.load()
    assert splits.train[0] == Item("A0?", ("<<1+1=2>>", "<<2+0=2>>"), "1002")
    assert splits.validation[0] == Item("B0?", (), "2/5")
    assert splits.test[0] == Item("C0?", ("<<1*3=3>>",), "3")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [3, 500, 1319]
    assert hub.asked == [
        ("whynlp/gsm8k-aug", None, "train", "main"),
        ("whynlp/gsm8k-aug", None, "validation", "main"),
        ("openai/gsm8k", "main", "test", task.test_revision),
    ]
    assert re.fullmatch("[0-9a-f]{40}", task.test_revision)
    assert splits.provenance["source"] == "hub"
    files = splits.provenance["files"]
    assert files["openai/gsm8k/main/test"]["commit"] == task.test_revision
    # The branch is what was asked for; the commit is what was read.
    assert files["whynlp/gsm8k-aug/train"] == {"revision": "main", "commit": COMMIT, "rows": 3}


def test_another_number_of_rows_on_the_hub_is_refused(hub: Hub) -> None:
    for (name, split), key in zip(hub.rows, ("aug", "aug", "test"), strict=True):
        rows = hub.rows[name, split]
        hub.rows[name, split] = rows[:-1]
        message = refused(Gsm8k())
        assert message.startswith(name) and f"{len(rows) - 1} rows, published were" in message
        assert f"data.{key}_revision" in message and "data.root=<directory>" in message
        hub.rows[name, split] = []
        assert ": 0 rows" in refused(Gsm8k())
        hub.rows[name, split] = rows


def test_a_repeated_question_on_the_hub_is_refused(hub: Hub) -> None:
    hub.rows["openai/gsm8k", "test"][7] = hub.rows["openai/gsm8k", "test"][2]
    message = refused(Gsm8k())
    assert message.startswith("openai/gsm8k/main/test:8: 'C2?' is the question of row 3 again")


def test_testing_on_the_hub_fetches_no_training_rows(hub: Hub) -> None:
    splits = Gsm8k().load(["test"])
    assert len(splits.test) == 1319 and not splits.train and not splits.validation
    assert [split for _, _, split, _ in hub.asked] == ["test"]


@pytest.mark.parametrize(
    "error", [ConnectionError("no\nroute"), ValueError(), RuntimeError("gated")]
)
def test_an_unreachable_hub_points_to_local_files(hub: Hub, error: Exception) -> None:
    hub.error = error
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
def test_a_hub_set_with_other_columns_is_refused(hub: Hub, row: dict, found: str) -> None:
    hub.rows["whynlp/gsm8k-aug", "train"] = [row]
    message = refused(Gsm8k())
    assert message.startswith("whynlp/gsm8k-aug/train:1: ")
    assert found in message


# -- held-out files ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [VALIDATION, TEST])
def test_held_out_files_that_are_not_the_published_ones_are_refused(root: Path, name: str) -> None:
    """Also plain text that reads well; the digest accepts it."""
    other = TEST if name == VALIDATION else VALIDATION
    accepted = digest((root / other).read_bytes())
    message = refused(Gsm8k(root=str(root), sha256=[accepted]))
    assert message.startswith(f"{root / name}: not the published file (as published: ")
    sha256 = digest((root / name).read_bytes())
    assert f"data=gsm8k data.sha256=[{sha256}]" in message
    entry = gsm8k(root).load().provenance["files"][name]
    assert (entry["edition"], entry["checked"], entry["rows"]) == ("unknown", "nothing", 1)


@needs_shared
def test_a_hundred_test_rows_and_one_of_them_again_are_refused(tmp_path: Path) -> None:
    """Not the published file; and where it is accepted, the row is named."""
    path = locate(SHARED, TEST)
    assert path is not None
    rows = unpack(path).decode().splitlines(keepends=True)[:100]
    for name in (FULL_TRAIN, VALIDATION):
        write(tmp_path / name, TRAIN_ROW if name == FULL_TRAIN else VALID_ROW)
    write(tmp_path / TEST, "".join([*rows, rows[4]]))
    valid = digest(VALID_ROW.encode())
    assert "not the published file" in refused(Gsm8k(root=str(tmp_path), sha256=[valid]))
    message = refused(gsm8k(tmp_path))
    assert message.startswith(f"{tmp_path / TEST}:101: ")
    assert "is the question of row 5 again" in message


def test_a_repeated_validation_question_is_named(root: Path) -> None:
    write(root / VALIDATION, VALID_ROW + "New?|| #### 1\n" + "Four plus one?|| #### 6\n")
    assert refused(gsm8k(root)).startswith(f"{root / VALIDATION}:3: 'Four plus one?' is the ")


def test_testing_needs_no_training_files(root: Path) -> None:
    (root / FULL_TRAIN).unlink()
    (root / VALIDATION).unlink()
    splits = gsm8k(root).load(["test"])
    assert [item.answer for item in splits.test] == ["1010"]
    assert not splits.train and not splits.validation
    assert list(splits.provenance["files"]) == [TEST]
    assert "no such file" in refused(gsm8k(root))


def test_a_split_is_the_same_by_itself(root: Path) -> None:
    """Also the training rows that overlap: they are dropped though nothing else was asked for."""
    write(root / FULL_TRAIN, TRAIN_ROW + VALID_ROW + TRAIN_ROW)
    task = gsm8k(root, drop_overlap=True)
    whole, part = task.load(), task.load(["train"])
    assert part.train == whole.train and len(part.train) == 1
    assert not part.validation and not part.test


@needs_shared
def test_the_published_files() -> None:
    splits = Gsm8k(root=str(SHARED)).load()
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [9915, 500, 1319]
    assert splits.provenance["dropped"] == {
        "repeated": 58,
        "repeated with another answer": 0,
        "overlap": 0,
    }
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
