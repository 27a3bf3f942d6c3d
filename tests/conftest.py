"""Hygiene for all tests: one thread, no network habits, and nothing left changed behind a test."""

import os
import signal
from collections.abc import Iterator

import pytest

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1)
# Set by pytest itself, and once per process by libraries for their own use.
EXPECTED_CHANGES = {
    "PYTEST_CURRENT_TEST",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_DEVICE_ORDER",
    "KMP_DUPLICATE_LIB_OK",
    "KMP_INIT_AT_FORK",
    "PYTORCH_NVML_BASED_CUDA_CHECK",
    "TORCHINDUCTOR_CACHE_DIR",
    "WANDB_SERVICE",
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests share few cores, and results must not depend on how many there are."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fail a test that leaves the environment, the folder or a signal handler changed."""
    environment, folder = dict(os.environ), os.getcwd()
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
    yield
    leaks = _changed_variables(environment)
    leaks += [
        f"handler of {signum.name}"
        for signum, handler in handlers.items()
        if signal.getsignal(signum) is not handler
    ]
    leaks += [] if os.getcwd() == folder else ["working directory"]
    # Put right first, so that one test's leak does not fail the next.
    for name in set(os.environ) - set(environment) - EXPECTED_CHANGES:
        del os.environ[name]
    os.environ.update(environment)
    os.chdir(folder)
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    assert not leaks, f"left changed: {', '.join(leaks)}"


def _changed_variables(before: dict[str, str]) -> list[str]:
    names = set(before) | set(os.environ)
    changed = {name for name in names if before.get(name) != os.environ.get(name)}
    return sorted(f"${name}" for name in changed - EXPECTED_CHANGES)


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C works: a shell's background jobs ignore it, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
