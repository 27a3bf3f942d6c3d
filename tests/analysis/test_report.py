"""The page about a study: what it says, that it is one safe file, that it works in a browser."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentbench.analysis.collect import collect
from latentbench.analysis.figures import draw
from latentbench.analysis.report import main, page
from latentbench.analysis.report.browser import browse, browser, screenshots
from latentbench.analysis.report.data import item_rows, packed_items
from latentbench.analysis.report.verdicts import Contrast, gained, in_words, versus
from latentbench.analysis.stats import Interval, majority
from latentbench.analysis.study import Study, groups_of

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


def write_study(root: Path, write_run: Callable[..., Path], answer: str | None = None) -> Path:
    """Two methods that differ clearly and a third like the second, three seeds each."""
    for method, lift in (("dropout_grpo", 0.45), ("gumbel_grpo", 0.1), ("temp_grpo", 0.1)):
        for seed in range(3):
            folder = root / f"{method}-{seed}"
            rate = 0.1 if method == "dropout_grpo" else 0.0
            config = {
                "method": method,
                "seed": seed,
                "noise": {"rate": rate},
                "init": {"root": "/x"},
            }
            init = {"id": "init0"}
            timing = {"rl": 61.2, "init": 0.5}
            write_run(folder, method, seed, lift=lift, config=config, init=init, timing=timing)
            if answer is not None:
                items = pd.read_parquet(folder / "items.parquet")
                items.assign(answer_text=answer).to_parquet(folder / "items.parquet", index=False)
    return root


def write_page(root: Path, out: Path, *options: str) -> str:
    assert main([str(root), "--out", str(out), *options]) == 0
    return out.read_text(encoding="utf-8")


class Links(HTMLParser):
    """Every address in a page that a browser would fetch or go to, and the text outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        named = ("src", "href", "action", "srcset", "data", "xlink:href")
        self.found += [value or "" for name, value in attrs if name in named]

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words).replace("\u00a0", " "))


_MADE: list[Path] = []


@pytest.fixture
def plain(tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]) -> Path:
    """A page of the clear study, made once; its folder holds the runs."""
    if not _MADE:
        root = tmp_path_factory.mktemp("page")
        write_study(root / "runs", write_run)
        write_page(root / "runs", root / "report.html")
        _MADE.append(root / "report.html")
    return _MADE[0]


def test_the_summary_says_what_is_shown_and_what_is_not(plain: Path) -> None:
    text = Links(plain.read_text(encoding="utf-8")).text
    assert re.search(
        r"dropout_grpo beats temp_grpo on chain \(greedy pass@1\) by \d+\.\d points", text
    )
    assert re.search(r"p adjusted for 3 comparisons [<=] 0\.\d+; 3 seeds, 40 items", text)
    assert re.search(r"No difference shown between \w+_grpo and \w+_grpo on chain", text)
    assert re.search(r"interval [-+][\d.]+ to \+[\d.]+, which spans 0", text)
    assert "finds with 80 % chance: about" in text
    assert re.search(r"dropout_grpo gains \d+\.\d points over its own init", text)
    assert "Left out: no run has a metrics.csv" in text and "No run was left out" in text


def test_the_page_is_one_file_that_asks_for_nothing(plain: Path) -> None:
    text = plain.read_text(encoding="utf-8")
    assert all(link.startswith(("#", "data:")) for link in Links(text).found)
    assert "default-src 'none'" in text and "@import" not in text and "url(http" not in text
    assert text.count("<svg") == 1 and str(plain.parent) not in text and '"init.root"' not in text


def test_the_same_runs_give_the_same_bytes(plain: Path, tmp_path: Path) -> None:
    again = write_page(plain.parent / "runs", tmp_path / "new" / "again.html")
    assert again == plain.read_text(encoding="utf-8")


def test_tables_have_scopes_captions_and_values(plain: Path) -> None:
    text = plain.read_text(encoding="utf-8")
    for table in re.findall(r"<table.*?</table>", text, flags=re.DOTALL):
        assert "<caption" in table and 'scope="col"' in table
        assert re.search(r"<th(?! scope)[ >]", table) is None
    assert re.search(r'data-value="0\.\d+">\d+\.\d <small>\[\d+\.\d, \d+\.\d\]</small>', text)
    assert "1\u00a0min\u00a02\u00a0s" in text and "runs/dropout_grpo-0" in text


def test_left_out_runs_are_named_with_relative_paths(
    tmp_path: Path, write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_study(tmp_path / "runs", write_run)
    write_run(
        root / "late", "temp_grpo", 3, run_id="late", status="failed", error="<b>no memory</b>"
    )
    assert main([str(root), "--out", str(tmp_path / "report.html")]) == 2
    assert not (tmp_path / "report.html").exists() and "--allow failed" in capsys.readouterr().err
    text = write_page(root, tmp_path / "report.html", "--allow", "failed")
    assert "<td>status is failed: &lt;b&gt;no memory&lt;/b&gt;</td>" in text
    assert '<th scope="row">runs/late</th>' in text and "Left out: 1 failed." in text


def test_what_a_model_wrote_cannot_become_markup(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    root = write_study(tmp_path / "runs", write_run, HOSTILE + "\u2028")
    text = write_page(root, tmp_path / "report.html")
    assert "owned" in text and "<img" not in text and "\u2028" not in text
    assert text.count("</script>") == 2
    data = re.search(r'id="data">(.*?)</script>', text, flags=re.DOTALL)
    assert data and json.loads(data[1])["answers"][0][0].startswith(HOSTILE)


def test_long_answers_are_cut_until_the_page_is_small(
    tmp_path: Path, write_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_study(tmp_path / "runs", write_run, "x" * 5000)
    monkeypatch.setattr("latentbench.analysis.report.data._ITEM_BYTES", 20_000)
    study = collect([root])
    text = page(study, [], [root])
    found = re.search(r"Answers are cut to (\d+) characters", text)
    assert found and int(found[1]) < 5000 and len(text) < 100_000


def test_twenty_runs_of_a_thousand_items_stay_small(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    draws = np.random.default_rng(0)
    folder = write_run(tmp_path / "one", n_items=1000)
    items = pd.read_parquet(folder / "items.parquet")
    first = collect([tmp_path]).runs[0]
    runs = [type(first)(first.path, {**first.result, "seed": n}) for n in range(20)]
    study = Study(runs, dict.fromkeys([first.path], "coconut"), [], [])
    frames = {}
    words = [f"<<{a}+{b}={a + b}>> so it is {a + b}" for a, b in draws.integers(0, 99, (4000, 2))]
    rows = items.loc[items["decode"] == "greedy"].sort_values(by=["item"])
    frames[first.path] = rows.assign(answer_text=draws.choice(words, len(rows)))
    data = packed_items(study, groups_of(study), frames, {}, 200)
    one = len(json.dumps(data))
    assert one < 400_000  # answers of a run are shared here; each further run adds its columns
    assert 20 * len(json.dumps(data["columns"])) + one < 3_000_000


def test_verdicts_after_correction_and_with_one_seed(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    write_run(tmp_path / "a", "dropout_grpo", 0, lift=0.5)
    write_run(tmp_path / "b", "temp_grpo", 0, lift=0.0)
    study = collect([tmp_path])
    text = Links(page(study, draw(study, ()), [tmp_path])).text
    assert "One seed: this says nothing about other seeds." in text
    same = Contrast("a", "b", "chain", "x", Interval(0.0, 0.0, 0.0, 3, 9), 1.0, (3, 3))
    assert "Not one grade differs" in in_words([same], gained)[0].detail
    interval = Interval(0.02, 0.001, 0.039, 3, 1000)
    lost = Contrast("a", "b", "chain", "greedy pass@1", interval, 0.03, (3, 3))
    first, second = in_words([lost, lost], versus)
    assert (
        first.kind == second.kind == "lost"
        and "but p so adjusted is not below 0.05" in first.detail
    )
    assert first.head.startswith("No difference shown between a and b")


# --- in a browser ---------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(browser() is None, reason="no Chromium on this machine")

PROBE = """
const out = { title: document.title };
const $ = (id) => document.getElementById(id);
const change = (id, value) => { $(id).value = value; $(id).dispatchEvent(new Event("change")); };
const table = document.querySelector("#tables table");
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
const heads = [...table.tHead.rows[0].cells];
heads[2].querySelector("button").click();
out.down = names(); out.sorted = heads[2].getAttribute("aria-sort");
heads[2].querySelector("button").click();
out.up = names(); out.marked = heads.filter((head) => head.hasAttribute("aria-sort")).length;
out.all = $("item-count").textContent;
change("item-filter", "fixed:0");
out.fixed = $("item-count").textContent; out.boxes = document.querySelectorAll(".item").length;
out.box = document.querySelector(".item dl").textContent;
change("item-seed", "1"); out.one = $("item-count").textContent;
change("item-filter", "broken:0"); out.broken = $("item-count").textContent;
change("item-filter", "all"); change("item-seed", "majority");
$("item-next").click(); out.page = $("item-page").textContent;
const uid = document.querySelector(".item code").textContent;
$("item-search").value = uid; $("item-search").dispatchEvent(new Event("input"));
out.searched = $("item-count").textContent;
change("config-a", "0"); change("config-b", "8"); out.configs = $("config-count").textContent;
out.keys = [...document.querySelectorAll("#config-table tbody th")].map((cell) => cell.textContent);
out.images = document.images.length;
out.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
const pre = document.createElement("pre"); pre.id = "probe"; pre.textContent = JSON.stringify(out);
document.body.append(pre);
"""


def probe(file: Path, width: int) -> tuple[dict, str]:
    """What a script finds in a page, in a copy whose policy lets it run; the browser's log."""
    text = file.read_text(encoding="utf-8")
    text = re.sub(r"script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", text)
    copy = file.with_name("probe.html")
    copy.write_text(text.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    done = browse(copy, "--dump-dom", f"--window-size={width},900", "--enable-logging=stderr")
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found, done.stderr
    import html

    return json.loads(html.unescape(found[1])), done.stderr


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_works_in_a_browser(plain: Path, width: int) -> None:
    found, log = probe(plain, width)
    assert "CONSOLE" not in log, log
    assert found["down"][0] == "dropout_grpo" and found["up"] == found["down"][::-1]
    assert found["sorted"] == "descending" and found["marked"] == 1
    assert found["all"] == "40 of 40 items" and found["page"] == "page 2 of 2"
    fixed = int(found["fixed"].split()[0])
    assert 0 < fixed < 40 and found["boxes"] == min(fixed, 20) and "right: 7" in found["box"]
    assert found["one"] != found["broken"] and found["searched"] == "1 of 40 items"
    assert {"method", "seed", "noise.rate"} == set(found["keys"])
    assert found["configs"] == "3 of 3 keys differ." and found["wide"] <= 0


@needs_browser
def test_a_browser_agrees_that_fixed_items_are_fixed(plain: Path) -> None:
    study = collect([plain.parent / "runs"])
    right = {}
    for stage in ("init", "final"):
        runs = [run for run in study.runs if run.method == "dropout_grpo"]
        rows = pd.concat([item_rows(run) for run in runs])
        votes = rows.loc[rows["stage"] == stage].groupby("item")["prediction"].agg(list)
        held = [[vote if isinstance(vote, str) else None for vote in row] for row in votes]
        right[stage] = [majority(row) == "7" for row in held]
    wanted = sum(after and not before for before, after in zip(*right.values(), strict=True))
    assert probe(plain, 1280)[0]["fixed"] == f"{wanted} of 40 items"


@needs_browser
def test_hostile_answers_stay_text_in_a_browser(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    root = write_study(tmp_path / "runs", write_run, HOSTILE)
    write_page(root, tmp_path / "report.html")
    found, log = probe(tmp_path / "report.html", 1280)
    assert found["title"] != "owned" and found["images"] == 0 and "CONSOLE" not in log
    assert HOSTILE in found["box"]


@needs_browser
def test_the_policy_refuses_scripts_of_others_and_the_network(plain: Path) -> None:
    text = plain.read_text(encoding="utf-8")
    foreign = "<script>document.title='owned'</script><img src='https://example.invalid/x.png'>"
    copy = plain.with_name("foreign.html")
    copy.write_text(text.replace("</body>", foreign + "</body>"), encoding="utf-8")
    done = browse(copy, "--dump-dom", "--enable-logging=stderr")
    assert "<title>owned" not in done.stdout
    assert len(re.findall("violates the following Content Security Policy", done.stderr)) == 2


@pytest.mark.slow
@needs_browser
def test_screenshots_at_two_widths(plain: Path, tmp_path: Path) -> None:
    from PIL import Image

    files = screenshots(plain, tmp_path / "images")
    widths = set()
    for file in files:
        with Image.open(file) as image:
            widths.add(image.width)
            assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 20, file
        assert file.stat().st_size < 300_000
    assert widths == {390, 1280}


def test_without_a_browser_screenshots_say_so(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("latentbench.analysis.report.browser.browser", lambda: None)
    options = ["--out", str(tmp_path / "r.html"), "--screenshots", str(tmp_path)]
    assert main([str(plain.parent / "runs"), *options]) == 2
    assert "no Chromium found" in capsys.readouterr().err


def test_help_names_the_screenshots() -> None:
    import sys

    command = [sys.executable, "-m", "analysis.report", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--screenshots DIR" in done.stdout


def test_the_page_holds_the_question_of_every_item(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    """Questions come from questions.parquet, are escaped like answers, and may be absent."""
    root = write_study(tmp_path / "runs", write_run)
    without = write_page(root, tmp_path / "without.html")
    assert "What is" not in without
    for folder in root.iterdir():
        items = pd.read_parquet(folder / "items.parquet")[["benchmark", "item"]].drop_duplicates()
        asked = ["What is " + uid + "? " + HOSTILE for uid in items["item"]]
        items.assign(question=asked).to_parquet(folder / "questions.parquet", index=False)
    text = write_page(root, tmp_path / "with.html")
    assert all("What is " + uid + "? " in text for uid in items["item"])
    assert HOSTILE not in text
