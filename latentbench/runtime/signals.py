"""What SIGTERM, SIGUSR1 (Slurm's warning) and Ctrl-C do to a run: it stops where that is safe, and
can be carried on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

STOP = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)


class Preempted(BaseException):
    """The run was asked to stop. Not an Exception: no recovery from anything else may catch it."""

    def __init__(self, signum: int, where: str = "stopped") -> None:
        super().__init__(f"{where} on {signal.Signals(signum).name}")
        self.signum = signum


@contextmanager
def handling(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Answer these signals by `handler`; a signal that the process ignores stays ignored."""
    chosen = [signum for signum in STOP if signal.getsignal(signum) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, handler) for signum in chosen}
    try:
        yield
    finally:
        for signum, previous in before.items():
            signal.signal(signum, previous)


def stop_now(signum: int, _frame: FrameType | None) -> NoReturn:
    """Stop at once, outside of training. They are then ignored: the end is being recorded,
    and `timeout` and job schedulers like to send theirs twice."""
    for each in STOP:
        signal.signal(each, signal.SIG_IGN)
    raise Preempted(signum)
