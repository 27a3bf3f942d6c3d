"""A full disk, no network, other people's secrets, loggers: what is around a run."""

import json
import resource
from pathlib import Path

import pytest
from driver import QUICK, checkpoint, inside, outside, tree

SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345",
}
NO_SOCKETS = """
import socket

def refuse(*_args, **_named):
    raise OSError("this test has no network")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.create_connection = socket.getaddrinfo = refuse
"""


def test_a_full_disk_leaves_the_last_checkpoint(
    tmp_path: Path, quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentbench.training.rl import RlModule

    original = RlModule.training_step
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(self: RlModule, *rest) -> None:
        original(self, *rest)
        if self.update == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RlModule, "training_step", filling)
        try:
            with pytest.raises((OSError, RuntimeError)):
                quick(folder, "trainer.checkpoint_every=1")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint(folder)["latentbench"]["update"] == 2
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    assert json.loads((folder / "result.json").read_text())["status"] == "failed"
    assert quick(folder, "trainer.checkpoint_every=1").code == 0


def test_no_network_is_needed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_SOCKETS)
    (tmp_path / "home").mkdir()
    where = {"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    outcome = outside("debug=smoke", cwd=tmp_path, **where)
    assert outcome.code == 0, outcome
    assert outcome.err == ""
    last = outcome.out.strip().splitlines()[-1]
    assert last.startswith("run directory: outputs/")
    assert (tmp_path / last.partition(": ")[2] / "result.json").is_file()
    assert len(list((tmp_path / "inits").glob("*/init.json"))) == 1


@pytest.mark.slow
def test_secrets_stay_out_and_wandb_stays_in_the_run(tmp_path: Path) -> None:
    outcome = outside(
        *QUICK,
        "logger=[wandb,tensorboard]",
        "logger.wandb.mode=offline",
        "hydra.run.dir=run",
        cwd=tmp_path,
        **SECRETS,
    )
    assert outcome.code == 0, outcome
    files = tree(tmp_path)
    for content in files.values():
        assert not any(secret.encode() in (content or b"") for secret in SECRETS.values())
    assert not any(secret in outcome.out + outcome.err for secret in SECRETS.values())
    runs = [name for name in files if name.endswith(".wandb")]
    assert len(runs) == 1 and runs[0].startswith("run/wandb/")
    assert [name for name in files if "tfevents" in name and name.startswith("run/tensorboard/")]
    assert b"arithmetic/pass@1" in (files[runs[0]] or b"")
    assert set(path.name for path in tmp_path.iterdir()) == {"run", "inits"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["coconut", "temp_grpo"])
def test_wandb_gets_plain_values_under_one_key(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    seen: dict = {}
    logged: list[dict] = []
    original = wandb.init

    def watching(*arguments, **named):
        seen.update(named["config"])
        run = original(*arguments, **named)
        log = run.log
        monkeypatch.setattr(
            run, "log", lambda row, *a, **k: (logged.append(row), log(row, *a, **k))
        )
        return run

    monkeypatch.setattr(wandb, "init", watching)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    where = (f"init.root={tmp_path / 'inits'}", f"hydra.run.dir={tmp_path / 'run'}")
    outcome = inside(
        *QUICK, *where, f"method={method}", "logger=wandb", "logger.wandb.mode=offline"
    )
    assert outcome.code == 0, outcome
    assert set(seen) == {"latentbench"}
    assert json.loads(json.dumps(seen)) == seen
    assert seen["latentbench"]["method"] == method
    assert any("train/loss" in row for row in logged)
    assert "arithmetic/pass@1" in logged[-1]
    assert wandb.run is None, "the W&B run was left open"


def test_wandb_is_closed_after_a_failure(
    tmp_path: Path, quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.pytorch.loggers import CSVLogger

    from latentbench.runtime import loggers
    from latentbench.training.rl import RlModule

    ended: list[str] = []

    class Watched(CSVLogger):
        def finalize(self, status: str) -> None:
            ended.append(status)

    def failing(self: RlModule, *rest) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(RlModule, "training_step", failing)
    monkeypatch.setattr(loggers, "_tensorboard", lambda *_: Watched(tmp_path / "watched"))
    with pytest.raises(RuntimeError, match="broken"):
        quick(tmp_path / "run", "logger=tensorboard")
    assert ended[-1] == "failed"
