"""The report on a data directory: counted by hand on small files, and the published numbers."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from latentbench.data.__main__ import main, run
from latentbench.data._overlap import mask_numbers
from latentbench.data._report import Overlap, Report, lines, report, set_names
from latentbench.data.gsm8k import FULL_TRAIN, TEST, VALIDATION
from latentbench.data.svamp import Svamp
from latentbench.errors import InputError
from latentbench.evaluation.loading import Home, check_unseen
from latentbench.records import Item, Splits
from latentbench.reward.exact_number import ExactNumber

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the published files are not here")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "gsm8k_aug").mkdir()
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / FULL_TRAIN).write_text(
        "Two  plus 3?|| #### 5\nno bars\nTom has 7 eggs?|| #### 7\nTom has 7 eggs?|| #### 7\n\x00\n"
    )
    (tmp_path / VALIDATION).write_text("Two plus 3?|| #### 5\n")
    (tmp_path / TEST).write_text(
        '{"question": "Tom has 1,234.5 eggs?", "answer": "#### 1"}\n'
        '{"question": "Tom has 8 eggs?", "answer": "#### 8"}\n'
        '{"question": "New?", "answer": "#### 8"}\n'
    )
    return tmp_path


def pair(made: Report, first: str, second: str) -> Overlap:
    (found,) = (o for o in made.overlaps if (o.first, o.second) == (first, second))
    return found


def test_the_counts_of_small_files(root: Path) -> None:
    made = report(root)
    train, validation, test = made.files
    assert (train.file, validation.file, test.file) == (FULL_TRAIN, VALIDATION, TEST)
    assert (train.rows, train.malformed, train.repeated, train.questions) == (5, 2, 1, 2)
    assert train.first_malformed.startswith(f"{root / FULL_TRAIN}:2: no '||'")
    assert (test.rows, test.malformed, test.repeated, test.edition) == (3, 0, 0, "unknown")
    found = [(o.exact, o.normalised, o.masked, o.of) for o in made.overlaps]
    # train x validation: one question, written with two blanks; train x test: two, with other
    # numbers; validation x test: none.
    assert found == [(0, 1, 1, 1), (0, 0, 2, 3), (0, 0, 0, 3)]
    assert [o.splits for o in made.overlaps] == [
        "train x validation",
        "train x test",
        "validation x test",
    ]


def test_the_text_names_broken_rows_and_only_pairs_that_share(root: Path) -> None:
    shown = lines(report(root))
    assert f"malformed: {root / FULL_TRAIN}:2: no '||' in 'no bars'" in "\n".join(shown)
    assert shown[-1] == "1 other pairs of files share no question."
    assert len({len(line) for line in shown[:1]}) == 1
    assert any(line.split()[:2] == [FULL_TRAIN, TEST] for line in shown)


def test_a_broken_array_ends_its_file(tmp_path: Path) -> None:
    good = {"question": "Is Tom a b?", "answer": "Tom is a b.", "steps": []}
    (tmp_path / "prosqa_valid.json").write_text(f"[{json.dumps(good)}, {{]")
    (count,) = report(tmp_path, ["prosqa"]).files
    assert (count.rows, count.malformed, count.questions) == (2, 1, 1)
    assert count.first_malformed.startswith(f"{tmp_path / 'prosqa_valid.json'}:2: not JSON")


def test_numbers_are_masked_whole() -> None:
    assert mask_numbers("He  paid $1,234.50 for 3.") == "he paid $# for #."


def test_a_new_data_set_is_in_the_report_by_its_file() -> None:
    assert "gsm8k" in set_names() and "svamp" in set_names()
    assert "arithmetic" not in set_names()


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    for names, said in (([], "none of the files"), (["foo"], "sets=foo: choose of aime2024")):
        with pytest.raises(InputError, match=said):
            report(tmp_path, names)
    with pytest.raises(InputError, match="no such directory"):
        report(tmp_path / "nowhere")


def test_the_command_prints_and_writes_only_where_asked(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    line = [sys.executable, "-m", "latentbench.data", "report", f"root={root}", "sets=gsm8k"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "") and FULL_TRAIN in done.stdout
    assert sorted(tmp_path.rglob("*")) == before
    run(["report", f"root={root}", "sets=gsm8k"])
    assert capsys.readouterr().out == done.stdout
    out = tmp_path / "report.json"
    run(["report", f"root={root}", f"out={out}"])
    written = json.loads(out.read_text())
    assert [len(written["files"]), len(written["overlaps"])] == [3, 3]
    out = tmp_path / "report.csv"
    run(["report", f"root={root}", f"out={out}"])
    assert out.read_text().splitlines()[2] == f"{FULL_TRAIN},{TEST},train x test,0,0,2,3"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing asked for"),
        (("reprot",), "reprot: python -m latentbench.data report"),
        (("report",), "root=<directory> is missing"),
        (("report", "root=.", "sets="), "sets=: python"),
        (("report", "root=.", "out=report.txt"), "out=report.txt: name a .json or .csv file"),
    ],
)
def test_a_wrong_command_exits_with_2(
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["latentbench.data", *arguments])
    assert main() == 2
    shown = capsys.readouterr()
    assert not shown.out and shown.err.startswith(f"error: {said}") and shown.err.count("\n") == 1


@pytest.fixture(scope="module")
def published() -> Report:
    return report(SHARED)


@needs_shared
def test_the_published_files_are_sound(published: Report) -> None:
    assert all(count.malformed == 0 for count in published.files)
    repeated = {count.file: count.repeated for count in published.files if count.repeated}
    assert repeated == {"multiarith/test.jsonl": 13}
    assert not any(count.edition == "unknown" for count in published.files)


AUG_PARTS = ("gsm8k_aug/train_no_aug_formula.txt", "gsm8k_aug/train_no_aug_nl.txt")
PART3000 = "gsm8k_aug/train_part3000.txt"


@needs_shared
@pytest.mark.parametrize(
    ("first", "second", "exact", "normalised"),
    [
        ("gsm8k/train.jsonl", TEST, 0, 0),
        (PART3000, TEST, 0, 0),
        (PART3000, VALIDATION, 0, 0),
        (PART3000, "gsm8k/train.jsonl", 58, 58),
        (AUG_PARTS[0], VALIDATION, 0, 0),
        (AUG_PARTS[1], VALIDATION, 0, 0),
        ("gsm8k/train.jsonl", VALIDATION, 500, 500),
        ("gsm8k_aug/test.txt", TEST, 1319, 1319),
        (TEST, "gsm_hard/test.jsonl", 240, 240),
        ("asdiv_a/test.jsonl", "multiarith/test.jsonl", 29, 29),
    ],
)
def test_the_measured_overlaps(
    published: Report, first: str, second: str, exact: int, normalised: int
) -> None:
    found = pair(published, first, second)
    assert (found.exact, found.normalised) == (exact, normalised)


@needs_shared
def test_no_training_file_shares_a_masked_question_with_a_test_set(published: Report) -> None:
    """None with the other benchmarks, and none of the GSM8K training file with its own test."""
    tests = ("svamp", "multiarith", "asdiv_a", "math500")
    seen = [
        o
        for o in published.overlaps
        if o.splits == "train x test" and o.second.partition("/")[0] in tests
    ]
    assert len(seen) == 4 * 4 and not any(o.exact or o.normalised or o.masked for o in seen)
    assert pair(published, "gsm8k/train.jsonl", TEST).masked == 0


@needs_shared
def test_eleven_shared_questions_differ_in_a_trailing_blank_alone() -> None:
    """Why an untrimmed comparison of MultiArith and ASDiv-A finds 18 and the report 29."""
    rows = {}
    for name in ("multiarith", "asdiv_a"):
        content = gzip.decompress((SHARED / name / "test.jsonl.gz").read_bytes())
        rows[name] = [json.loads(line) for line in content.decode().rstrip("\n").split("\n")]
    one = {row["input"] for row in rows["multiarith"]}
    other = {f"{row['Body']} {row['Question']}" for row in rows["asdiv_a"]}
    assert len(one & other) == 18
    assert len(one & {question.rstrip() for question in other}) == 29


def test_a_run_refuses_a_benchmark_with_its_training_questions(tmp_path: Path) -> None:
    """Whatever the case and the blanks in which the two files have it."""
    item = {"Body": "Ann has 3 eggs.", "Question": "How  many has SHE?", "Answer": 3.0}
    content = json.dumps(item) + "\n"
    (tmp_path / "svamp").mkdir()
    (tmp_path / "svamp" / "test.jsonl").write_text(content)
    sha256 = [hashlib.sha256(content.encode()).hexdigest()]
    seen = Svamp(root=str(tmp_path), sha256=sha256).load().test
    trained = Splits([Item("ann has 3 eggs. How many has she?", (), "3")], [], [])
    home = Home("gsm8k", trained, None, ExactNumber(), "exact_number")
    with pytest.raises(InputError, match="eval=svamp: 1 of its 1 items are training questions"):
        check_unseen("svamp", seen, home)
