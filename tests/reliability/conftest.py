"""Runs that many tests look at, made once."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver import QUICK, Outcome, inside

Runner = Callable[..., Outcome]


@pytest.fixture(scope="session")
def inits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store of start models for all tests that do not test the store itself."""
    return tmp_path_factory.mktemp("inits")


@pytest.fixture(scope="session")
def quick(inits: Path) -> Runner:
    """A quick run into a folder: `quick(folder, *more overrides)`."""

    def run(folder: Path, *overrides: str) -> Outcome:
        return inside(*QUICK, f"init.root={inits}", f"hydra.run.dir={folder}", *overrides)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, quick: Runner) -> Path:
    """The directory of a completed RL run, not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    outcome = quick(folder)
    assert outcome.code == 0, outcome
    return folder


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int | None], None]]:
    """`cut(k)`: runs are told to stop during update k, as by SIGTERM; `cut(None)`: no more."""
    from latentbench.runtime.checkpoints import Checkpoints

    at: list[int | None] = [None]
    original = Checkpoints.on_train_batch_end

    def stopping(self: Checkpoints, trainer, module, *rest) -> None:  # type: ignore[no-untyped-def]
        if module.update == at[0]:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, trainer, module, *rest)

    monkeypatch.setattr(Checkpoints, "on_train_batch_end", stopping)
    yield lambda update: at.__setitem__(0, update)
