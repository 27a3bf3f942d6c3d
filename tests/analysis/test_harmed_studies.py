"""Study folders that have come to harm: every command names what is wrong, or says what it left
out; none gives a traceback, and none prints another figure without a word."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from latentbench.analysis import collect, compare, plan, run_table, tables
from latentbench.analysis.figures import main as figures
from latentbench.analysis.report import main as report

RUN = "dropout_grpo-s0"
OTHER = "gumbel_grpo-s1"


def result(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Edit result.json by hand."""

    def harm(folder: Path) -> None:
        file = folder / "result.json"
        record = json.loads(file.read_text())
        changed = change(record)
        file.write_text(json.dumps(record if changed is None else changed))

    return harm


def fields(**values: Any) -> Callable[[Path], None]:
    return result(lambda record: record | values)


def without(name: str) -> Callable[[Path], None]:
    return result(lambda record: {k: v for k, v in record.items() if k != name})


def content(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        file = folder / name
        file.write_bytes(change(file.read_bytes()))

    return harm


def items(change: Callable[[pd.DataFrame], Any]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        frame = pd.read_parquet(folder / "items.parquet")
        changed = change(frame)
        (frame if changed is None else changed).to_parquet(folder / "items.parquet", index=False)

    return harm


def put(name: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.assign(**{name: value})


def metric(name: str, value: Any) -> Callable[[Path], None]:
    return result(lambda record: record["metrics"].update({name: value}))


def copied(name: str) -> Callable[[Path], None]:
    return lambda folder: shutil.copy(folder.parent / OTHER / name, folder / name)


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def as_folder(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return harm


HARMS: dict[str, Callable[[Path], Any]] = {
    "no record": removed("result.json"),
    "no items": removed("items.parquet"),
    "a folder for a record": as_folder("result.json"),
    "a folder for items": as_folder("items.parquet"),
    "an empty record": content("result.json", lambda _: b""),
    "a truncated record": content("result.json", lambda c: c[: len(c) // 2]),
    "a record that is a list": content("result.json", lambda _: b"[]"),
    "a record that is a number": content("result.json", lambda _: b"3"),
    "a record that is null": content("result.json", lambda _: b"null"),
    "a record that is no text": content("result.json", lambda _: b"\xff\xfe\x00x"),
    "a record with NUL": content("result.json", lambda c: c.replace(b"toy", b"t\x00y")),
    "another project's record": content("result.json", lambda _: b'{"accuracy": 0.5}'),
    "empty items": content("items.parquet", lambda _: b""),
    "truncated items": content("items.parquet", lambda c: c[: len(c) // 2]),
    "items without their end": content("items.parquet", lambda c: c[:-9]),
    "items that are text": content("items.parquet", lambda _: b"item,correct\n1,2\n"),
    "a flipped bit of items": content("items.parquet", lambda c: c[:99] + b"!" + c[100:]),
    "another run's items": copied("items.parquet"),
    "another run's record": copied("result.json"),
    "schema 2": fields(schema=2),
    "schema as text": fields(schema="1"),
    "no status": without("status"),
    "an unknown status": fields(status="done"),
    "status running": fields(status="running"),
    "status failed": fields(status="failed", error="out of memory"),
    "status preempted": fields(status="preempted"),
    "an error that is a list": fields(status="failed", error=["a", "b"]),
    "no run_id": without("run_id"),
    "a run_id that is a number": fields(run_id=5),
    "another run's run_id": fields(run_id="gumbel_grpo-1"),
    "no protocol_id": without("protocol_id"),
    "another protocol": fields(protocol_id="p2"),
    "a protocol that is null": fields(protocol_id=None),
    "no seed": without("seed"),
    "a seed that is text": fields(seed="0"),
    "a seed that is true": fields(seed=True),
    "a seed twice": fields(seed=1),
    "a new seed": fields(seed=9),
    "no method": without("method"),
    "a method with a line feed": fields(method="a\nb"),
    "a method that is a list": fields(method=["a"]),
    "no data": without("data"),
    "another data set": fields(data="else"),
    "no config": without("config"),
    "a config that is a list": fields(config=[1]),
    "a config that is text": fields(config="x"),
    "a config with a list for init": fields(config={"init": [1]}),
    "no init": without("init"),
    "an init that is text": fields(init="init0"),
    "another init": fields(init={"id": "other"}),
    "no provenance": without("provenance"),
    "a provenance that is a list": fields(provenance=[]),
    "another commit": fields(provenance={"version": "0.1.0", "git_commit": "b" * 40}),
    "a commit that is a number": fields(provenance={"version": 1, "git_commit": 5}),
    "timing that is text": fields(timing="fast"),
    "remarks that are a number": fields(remarks=3),
    "remarks that are no texts": fields(remarks=[1, None]),
    "no metrics": without("metrics"),
    "metrics that are a list": fields(metrics=[0.5]),
    "no metrics at all": fields(metrics={}),
    "an edited greedy metric": metric("chain/pass@1", 0.99),
    "an edited sampled metric": metric("chain/pass@4", 0.99),
    "an edited init metric": metric("init/chain/pass@1", 0.0),
    "a metric that is NaN": metric("chain/pass@1", float("nan")),
    "a metric that is null": metric("chain/pass@1", None),
    "a metric that is text": metric("chain/pass@1", "0.5"),
    "a metric above one": metric("chain/pass@1", 1.5),
    "a metric of no benchmark": metric("else/pass@1", 0.5),
    "a metric without a name": metric("/", 0.5),
    "files that are a list": fields(files=[1]),
    "a digest of other items": fields(files={"items.parquet": "0" * 64}),
    "no rows": items(lambda frame: frame.iloc[:0]),
    "one row": items(lambda frame: frame.iloc[:1]),
    "half of the items": items(lambda frame: frame.iloc[: len(frame) // 2]),
    "an item twice": items(lambda frame: pd.concat([frame, frame.iloc[:9]])),
    "a sample missing": items(lambda frame: frame.drop(index=3)),
    "no column of grades": items(lambda frame: frame.drop(columns="correct")),
    "grades that are text": items(put("correct", "yes")),
    "grades that are numbers": items(put("correct", 0.5)),
    "grades that are missing": items(put("correct", None)),
    "all right by hand": items(put("correct", True)),
    "other gold answers": items(put("gold", "8")),
    "items without names": items(put("item", None)),
    "items that are numbers": items(put("item", 5)),
    "an unknown stage": items(put("stage", "middle")),
    "an unknown decode": items(put("decode", "beam")),
    "samples that are text": items(put("sample", "x")),
    "another benchmark's name": items(put("benchmark", "else")),
}
assert len(HARMS) >= 66


def commands(study: Path, out: Path) -> dict[str, Callable[[], int]]:
    root, run = str(study), str(study / RUN)
    return {
        "tables": lambda: tables.main([root, "--out", str(out / "t")]),
        "gain": lambda: tables.main([root, "--spec", "gain", "--out", str(out / "g")]),
        "collect": lambda: collect.main([root, "--out", str(out / "frame.parquet")]),
        "plan": lambda: plan.main(["--effect", "3", "--runs", root]),
        "run_table": lambda: run_table.main([run]),
        "compare": lambda: compare.main([run, str(study / OTHER)]),
    }


def slow_commands(study: Path, out: Path) -> dict[str, Callable[[], int]]:
    return {
        "report": lambda: report([str(study), "--out", str(out / "page.html")]),
        "figures": lambda: figures([str(study), "--out", str(out / "f")]),
    }


def said_of(command: Callable[[], int]) -> tuple[int, str, str]:
    printed, told = StringIO(), StringIO()
    with redirect_stdout(printed), redirect_stderr(told):
        try:
            code = command()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return code, printed.getvalue(), told.getvalue()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command prints of the study as it is; filled by the first test that asks."""
    return {}


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check(name: str, study: Path, out: Path, sound: dict[str, str], which: Any) -> None:
    for title, command in which(study, out).items():
        if title not in sound:
            code, printed, told = said_of(command)
            assert code == 0 and not told, (title, told)
            sound[title] = printed
    HARMS[name](study / RUN)
    before = hashes(study)
    for title, command in which(study, out / "harmed").items():
        code, printed, told = said_of(command)
        assert "Traceback" not in printed + told, (title, told)
        if code == 0:  # what it shows is what it showed, or it says what it left out
            assert printed == sound[title] or told or name in SHOWN, title
            assert name not in REFUSED or title not in READS_ITEMS, title
        else:
            lines = told.strip().splitlines()
            assert code == 2 and lines[-1].startswith("error:"), (title, code, told)
            assert len(lines) <= 12
    assert hashes(study) == before, "a command wrote into a run"


# A run that says truly that it is another one is shown as that.
SHOWN = {
    *("another init", "another commit", "a new seed", "another data set", "a seed twice"),
    *("status running", "status failed", "status preempted", "an error that is a list"),
    *("another run's run_id", "other gold answers", "a metric without a name"),
}
READS_ITEMS = ("tables", "gain", "plan", "run_table", "compare", "report", "figures")
REFUSED = {
    *("no items", "empty items", "truncated items", "items without their end"),
    *("items that are text", "another run's items", "a digest of other items", "no rows"),
    *("one row", "half of the items", "an item twice", "a sample missing", "no column of grades"),
    *("grades that are text", "grades that are numbers", "grades that are missing"),
    *("all right by hand", "items without names", "an unknown stage", "samples that are text"),
}


@pytest.mark.parametrize("name", HARMS)
def test_harm_is_named(name: str, study: Path, tmp_path: Path, sound: dict[str, str]) -> None:
    check(name, study, tmp_path / "out", sound, commands)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(HARMS)[::4])
def test_harm_is_named_on_the_page(
    name: str, study: Path, tmp_path: Path, sound: dict[str, str]
) -> None:
    check(name, study, tmp_path / "out", sound, slow_commands)
