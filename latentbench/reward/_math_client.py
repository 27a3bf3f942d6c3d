"""The other end of `_math_server.py`: starts it, asks it, replaces it when it hangs or dies."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

log = logging.getLogger(__name__)

_SERVER = Path(__file__).with_name("_math_server.py")
_START_SECONDS = 120.0
# The server ends a comparison by itself, at ten times its limit whatever the machine is busy with;
# this is what it gets on top before it counts as stuck.
_STUCK_SECONDS = 20.0


class MathClient:
    """One server process at a time, started by the first question; safe between threads.

    `counts` counts the outcomes since the start: equal, unequal, timed_out, crashed.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._asked = 0
        self._server: subprocess.Popen[bytes] | None = None

    def equal(self, gold: str, answer: str, seconds: float) -> bool:
        """Whether the answer equals the gold one. A comparison that takes more than `seconds` of
        CPU time, or a server that dies over it, counts as not equal and is logged.

        Raises RuntimeError when a server cannot be started at all.
        """
        with self._lock:
            outcome = self._ask(gold, answer, seconds)
            self.counts[outcome] += 1
            self._tell(outcome, gold, answer)
        return outcome == "equal"

    def close(self) -> None:
        """End the server; the next question starts another."""
        with self._lock:
            self._stop()

    def _ask(self, gold: str, answer: str, seconds: float) -> str:
        if self._server is None:
            self._server = self._start()
        self._asked += 1
        question = [self._asked, gold, answer, seconds]
        try:
            _write_line(self._server, json.dumps(question))
        except BrokenPipeError:
            self._stop()
            return "crashed"
        while reply := _read_line(self._server, 10 * seconds + _STUCK_SECONDS):
            number, _, word = reply.rpartition(" ")
            # Without a number: the server's own word on a fork that died. Another number: the late
            # reply to a question that was already counted as failed.
            if number in ("", str(self._asked)):
                return word
        self._stop()
        return "crashed"

    def _start(self) -> subprocess.Popen[bytes]:
        # -P: the server's own folder, where another math_verify.py stands, is not on the path.
        # Its own session: an interrupt from the keyboard is for the run, which may go on asking.
        server = subprocess.Popen(
            [sys.executable, "-P", str(_SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a reply that waits in a buffer of ours would be one that poll does not see
            start_new_session=True,
        )
        if _read_line(server, _START_SECONDS) != "ready":
            _end(server)
            raise RuntimeError(
                f"reward=math_verify: {_SERVER.name} did not start (its own words stand above); "
                "is math-verify[antlr4-9-3] installed?"
            )
        atexit.register(self.close)
        return server

    def _stop(self) -> None:
        if self._server is not None:
            _end(self._server)
            self._server = None
            atexit.unregister(self.close)

    def _tell(self, outcome: str, gold: str, answer: str) -> None:
        """The 1st, 10th, 100th, ... failure, so that a log is not flooded."""
        count = self.counts[outcome]
        if outcome in ("timed_out", "crashed") and str(count).strip("0") == "1":
            log.warning(
                "math_verify: %s, so not equal (%d of %d comparisons so far): %.80r, gold %.80r",
                outcome.replace("_", " "), count, self.counts.total(), answer, gold,
            )  # fmt: skip


_clients: dict[int, MathClient] = {}


def math_client() -> MathClient:
    """The client of this process; after a fork the child gets its own, with its own server."""
    return _clients.setdefault(os.getpid(), MathClient())


def _write_line(server: subprocess.Popen[bytes], text: str) -> None:
    assert server.stdin is not None
    left = f"{text}\n".encode()  # ASCII: JSON escapes the rest, surrogates included
    while left:
        left = left[server.stdin.write(left) :]


def _read_line(server: subprocess.Popen[bytes], seconds: float) -> str | None:
    """The server's next line, None when it ends or says nothing for `seconds`."""
    assert server.stdout is not None
    poll = select.poll()
    poll.register(server.stdout, select.POLLIN)
    if not poll.poll(1000 * seconds):
        return None
    return server.stdout.readline().decode().strip() or None


def _end(server: subprocess.Popen[bytes]) -> None:
    """Kill the server and its fork, which are a process group of their own."""
    with contextlib.suppress(ProcessLookupError):  # both have ended by themselves
        os.killpg(server.pid, signal.SIGKILL)
    server.communicate()
