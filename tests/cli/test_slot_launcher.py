"""The slot launcher on a toy application: what a user relies on when a sweep runs for a night."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from hydra_plugins.latentbench_slots._jobs import Job, describe_exit, job_environment
from hydra_plugins.latentbench_slots._slots import Slot, SlotLauncherError, plan_slots

CHECKOUT = Path(__file__).parents[2]

PROGRAM = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    start = time.time()
    hydra_cfg = HydraConfig.get()
    out = Path(hydra_cfg.runtime.output_dir)
    found = sorted(path.name for path in out.iterdir())
    print("hello from seed", cfg.seed)
    pids = [os.getpid()]
    if cfg.helper:
        pids.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid)
        signal.signal(signal.SIGTERM, lambda *_: ((out / "saved").touch(), sys.exit(143)))
    report = dict(
        pids=pids, env=dict(os.environ), start=start, found=found,
        cfg=OmegaConf.to_container(cfg, resolve=True),
        job=[OmegaConf.select(hydra_cfg.job, key) for key in ("id", "num", "name", "config_name")],
    )
    (out / "report.part").write_text(json.dumps(report))
    (out / "report.part").rename(out / "report.json")
    time.sleep(cfg.sleep)
    if cfg.seed == cfg.fail_seed:
        print("about to fail", file=sys.stderr)
        raise ValueError(f"no luck with seed {cfg.seed}")
    if cfg.flaky and not (out / "tried").exists():
        (out / "tried").touch()
        sys.exit(7)
    report["end"] = time.time()
    (out / "report.json").write_text(json.dumps(report))
    (out / "result.json").write_text(json.dumps({"objective": cfg.seed / 2}))


main()
"""

CONFIG: dict[str, Any] = {
    "defaults": ["_self_", {"override hydra/launcher": "slots"}],
    "seed": 0,
    "sleep": 0.0,
    "fail_seed": None,
    "flaky": False,
    "helper": False,
    "text": "",
    "maybe": 1,
    "items": [],
}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The folder of an application that any import of torch would break."""
    folder = tmp_path / "my app"
    (folder / "conf").mkdir(parents=True)
    (folder / "run.py").write_text(PROGRAM)
    (folder / "conf" / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    (folder / "torch.py").write_text("raise RuntimeError('torch imported')")
    return folder


def environment(**extra: str) -> dict[str, str]:
    hidden = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTHONPATH")
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    return {**kept, "PYTHONPATH": str(CHECKOUT), **extra}


def start(app: Path, *args: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "run.py", *args],
        cwd=app,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(app: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    with start(app, *args, **env) as program:
        stdout, stderr = program.communicate(timeout=60)
    return subprocess.CompletedProcess(program.args, program.returncode, stdout, stderr)


def sweep(app: Path, *args: str, **env: str) -> list[dict[str, Any]]:
    """Runs a sweep into `sweep` that has to succeed, and returns the reports of its jobs."""
    done = run(app, "-m", "hydra.sweep.dir=sweep", *args, **env)
    assert done.returncode == 0, done.stderr
    return reports(app / "sweep")


def reports(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/report.json"))]


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_each_job_is_a_fresh_process_with_its_own_folder(app: Path) -> None:
    leaked = {"LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1", "PL_GLOBAL_SEED": "3"}
    done = run(app, "-m", "hydra.sweep.dir=sweep", "seed=0,1,2", "hydra.launcher.slots=1", **leaked)
    assert done.returncode == 0, done.stderr
    jobs = reports(app / "sweep")
    assert [job["cfg"]["seed"] for job in jobs] == [0, 1, 2]
    assert len({job["pids"][0] for job in jobs}) == 3
    assert [job["job"][:2] for job in jobs] == [["0", 0], ["1", 1], ["2", 2]]
    assert all(job["found"] == [".hydra", "run.log"] for job in jobs)
    assert not any(leaked.keys() & job["env"].keys() for job in jobs)
    assert {job["env"]["LATENTBENCH_SLOT"] for job in jobs} == {"cpu:0"}
    assert {path.name for path in (app / "sweep").iterdir()} == {
        *("0", "1", "2", "logs", "multirun.yaml")
    }
    assert (app / "sweep/logs/2.log").read_text() == "hello from seed 2\n"
    # One slot: the jobs' output is shown as it comes.
    assert [line for line in done.stdout.splitlines() if line.startswith("hello")] == [
        f"hello from seed {seed}" for seed in range(3)
    ]
    assert "[slot cpu:0] #1 seed=1 started" in done.stdout
    assert "3 of 3 jobs finished, 0 failed" in done.stdout


@pytest.mark.slow
def test_two_slots_overlap_and_never_hold_three_jobs(app: Path) -> None:
    jobs = sweep(app, "seed=0,1,2,3", "sleep=0.8", "hydra.launcher.slots=2")
    overlap = [sum(other["start"] <= job["start"] < other["end"] for other in jobs) for job in jobs]
    assert max(overlap) == 2
    assert {job["env"]["LATENTBENCH_SLOT"] for job in jobs} == {"cpu:0", "cpu:1"}
    cores = len(os.sched_getaffinity(0))
    assert {job["env"]["OMP_NUM_THREADS"] for job in jobs} == {str(max(1, cores // 2))}


@pytest.mark.slow
def test_listed_slots_become_visible_devices(app: Path) -> None:
    jobs = sweep(
        app,
        "seed=0,1",
        "sleep=1",
        "helper=true",
        'hydra.launcher.slots=["0,1","2,3"]',
        "hydra.launcher.stagger_seconds=0.3",
        OMP_NUM_THREADS="5",
    )
    assert [job["env"]["CUDA_VISIBLE_DEVICES"] for job in jobs] == ["0,1", "2,3"]
    assert [job["env"]["LATENTBENCH_SLOT"] for job in jobs] == ["cuda:0,1", "cuda:2,3"]
    assert jobs[1]["start"] - jobs[0]["start"] > 0.2
    # What a job leaves behind would keep the slot's device busy.
    assert not [pid for job in jobs for pid in job["pids"] if alive(pid)]
    assert {job["env"]["OMP_NUM_THREADS"] for job in jobs} == {"5"}


def test_a_failing_job_is_named_and_disturbs_nobody(app: Path) -> None:
    args = ("-m", "hydra.sweep.dir=sweep", "seed=0,1,2", "fail_seed=1", "hydra.launcher.slots=2")
    done = run(app, *args)
    assert done.returncode == 1
    assert done.stderr == (
        "1 of 3 jobs failed, logs in sweep/logs: #1 seed=1 fail_seed=1 (exit code 1)\n"
    )
    assert (
        "#1 seed=1 fail_seed=1 FAILED with exit code 1, last line of its log: "
        "ValueError: no luck with seed 1" in done.stdout
    )
    assert [path.parent.name for path in sorted(app.glob("sweep/*/result.json"))] == ["0", "2"]
    assert "about to fail" in (app / "sweep/logs/1.log").read_text()


@pytest.mark.slow
def test_retries_start_a_failed_job_again_in_its_folder(app: Path) -> None:
    done = run(
        app, "-m", "hydra.sweep.dir=sweep", "seed=4", "flaky=true", "hydra.launcher.retries=1"
    )
    assert done.returncode == 0, done.stderr
    assert "FAILED with exit code 7" in done.stdout
    assert "#0 seed=4 flaky=True started (attempt 2)" in done.stdout
    assert (app / "sweep/logs/0.log").read_text() == "hello from seed 4\n" * 2


@pytest.mark.slow
def test_jobs_compose_what_the_basic_launcher_composes(app: Path) -> None:
    extra = app / "more conf"
    (extra / "preset").mkdir(parents=True)
    (extra / "preset" / "big.yaml").write_text("size: 3\n")
    (app / "conf" / "other.yaml").write_text((app / "conf" / "config.yaml").read_text())
    args = [
        "-m",
        "--config-name=other",
        f"--config-dir={extra}",
        "items=[1,2],[a b,'c, d',null]",
        'text="a = b, it\'s {x}",\'say "hi" \\\\ ünï\'',
        "maybe=null",
        "+table={x:1,y:[2,{z:'k=v'}]}",
        "+number=${hydra:job.num}",
        "+added.key='x=1 y=2'",
        "+copied=${seed}",
        "+empty=''",
        "+preset=big",
        "~flaky=false",
        "++flaky=0",
        "hydra.job.name='a b'",
        "hydra.sweep.subdir=n${hydra.job.num}-s${hydra:job.id}",
    ]
    for launcher in ("basic", "slots"):
        done = run(app, *args, f"hydra.sweep.dir={launcher}", f"hydra/launcher={launcher}")
        assert done.returncode == 0, done.stderr
    expected, actual = reports(app / "basic"), reports(app / "slots")
    assert len(expected) == 4
    for basic, slots in zip(expected, actual, strict=True):
        assert [slots[key] for key in ("cfg", "job", "found")] == [
            basic[key] for key in ("cfg", "job", "found")
        ]
    for name in ("config.yaml", "overrides.yaml"):
        for path in (app / "basic").glob(f"*/.hydra/{name}"):
            twin = app / "slots" / path.relative_to(app / "basic")
            assert twin.read_text() == path.read_text()


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_an_interrupt_reaches_the_jobs_and_leaves_no_orphan(
    app: Path, signum: signal.Signals, code: int
) -> None:
    args = ("-m", "hydra.sweep.dir=sweep", "seed=0,1,2", "sleep=60", "helper=true")
    parent = start(app, *args, "hydra.launcher.slots=2")
    deadline = time.monotonic() + 20
    while len(reports(app / "sweep")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [pid for report in reports(app / "sweep") for pid in report["pids"]]
    assert len(pids) == 4
    parent.send_signal(signum)
    _, stderr = parent.communicate(timeout=20)
    assert (parent.returncode, stderr) == (code, "")
    assert not [pid for pid in pids if alive(pid)]
    assert len(list(app.glob("sweep/*/saved"))) == 2
    assert not (app / "sweep/2").exists()


def test_single_runs_and_printed_configs_do_not_involve_the_launcher(app: Path) -> None:
    printed = run(app, "--cfg", "job", "seed=9")
    assert printed.returncode == 0
    assert yaml.safe_load(printed.stdout)["seed"] == 9
    single = run(app, "hydra.run.dir=single", "seed=9")
    assert (single.returncode, single.stdout) == (0, "hello from seed 9\n")
    (report,) = reports(app)
    assert "LATENTBENCH_SLOT" not in report["env"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "hydra.launcher.slots=0",
            "hydra.launcher.slots=0: use auto, a number from 1 up, or a list",
        ),
        ("hydra.launcher.retries=-1", "hydra.launcher.retries=-1 is too small: use 0 or more"),
        ("+hydra.launcher.slot=1", "hydra.launcher.slot is no knob: use slots, threads, "),
        (
            "hydra.sweep.subdir=same",
            "hydra.sweep.subdir=same is the folder of both job #0 and job #1",
        ),
    ],
)
def test_a_wrong_setting_is_one_line_before_any_job(app: Path, override: str, message: str) -> None:
    done = run(app, "-m", "hydra.sweep.dir=sweep", "seed=0,1", override)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr
    assert not reports(app / "sweep")


def test_auto_gives_one_slot_per_visible_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-8,-1,5")
    assert plan_slots("auto", None) == [Slot("cuda:2", "2"), Slot("cuda:GPU-8", "GPU-8")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cores = len(os.sched_getaffinity(0))
    assert len(plan_slots("auto", 1)) == cores
    assert plan_slots("auto", cores + 1) == [Slot("cpu:0", None)]


def test_auto_counts_gpus_with_the_driver_tool(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: A'\necho '  MIG 1g Device 0'\necho 'GPU 1: B'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [slot.devices for slot in plan_slots("auto", None)] == ["0", "1"]


def test_more_slots_than_gpus_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert plan_slots(3, None) == [
        *(Slot("cuda:0.0", "0"), Slot("cuda:1", "1"), Slot("cuda:0.1", "0"))
    ]


def test_a_listed_device_must_be_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert [slot.devices for slot in plan_slots(["2,3", 3], None)] == ["2,3", "3"]
    with pytest.raises(SlotLauncherError, match="CUDA_VISIBLE_DEVICES=2,3 hides device 0"):
        plan_slots(["0", "2"], None)


@pytest.mark.parametrize(
    ("text", "objective"),
    [(None, None), ("{}", None), ('{"objective": null}', None), ('{"objective": 0.0}', 0.0)],
)
def test_a_sweeper_gets_the_objective(
    tmp_path: Path, text: str | None, objective: float | None
) -> None:
    job = Job(0, [], OmegaConf.create(), str(tmp_path), "0", tmp_path / "logs/0.log")
    job.directory.mkdir()
    if text is not None:
        (job.directory / "result.json").write_text(text)
    assert job.objective == objective


def test_a_killed_job_says_by_which_signal() -> None:
    assert describe_exit(-signal.SIGKILL) == "killed by signal 9 (Killed)"


def test_no_rank_reaches_a_job() -> None:
    parent = {"RANK": "1", "TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "y", "HOME": "/home/me"}
    env = job_environment(parent, Slot("cpu:0", None), threads=2)
    assert env == {
        "HOME": "/home/me",
        "LATENTBENCH_SLOT": "cpu:0",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
    }
