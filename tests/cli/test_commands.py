"""`latentbench <command>`: the same programs under one name."""

from __future__ import annotations

import sys
from importlib import import_module
from types import SimpleNamespace

import pytest

import latentbench
from latentbench import __main__ as commands


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int | None, list[list[str]]]:
    """The exit code, and the argument lists that the commands' programs saw."""
    seen: list[list[str]] = []

    def stand_in(name: str) -> SimpleNamespace:
        return SimpleNamespace(__file__=name, main=lambda: seen.append([name, *sys.argv]))

    monkeypatch.setattr(commands, "import_module", stand_in)
    monkeypatch.setattr(sys, "argv", ["latentbench", *words])
    return commands.main(), seen


def test_every_command_is_a_program() -> None:
    for module in commands.COMMANDS.values():
        assert callable(import_module(module).main)


def test_words_go_to_their_program(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = "latentbench.analysis.tables"
    assert typed(monkeypatch, "tables", "x") == (None, [[tables, tables, "x"]])
    run = ["latentbench.cli", "latentbench"]
    assert typed(monkeypatch)[1] == [run]
    assert typed(monkeypatch, "run", "seed=1", "-m")[1] == [[*run, "seed=1", "-m"]]
    assert typed(monkeypatch, "seed=1")[1] == [[*run, "seed=1"]]
    assert typed(monkeypatch, "check")[1] == [[*run, "--check"]]


def test_a_sweep_of_evaluations_starts_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher starts jobs by the first word of the command line, a file."""
    evaluate = "latentbench.evaluate"
    assert typed(monkeypatch, "evaluate", "-m")[1] == [[evaluate, evaluate, "-m"]]


def test_bad_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(monkeypatch, "tabels") == (2, [])
    assert capsys.readouterr().err == "error: tabels: no such command; did you mean tables?\n"
    assert typed(monkeypatch, "xyz") == (2, [])
    assert "choose one of run, evaluate" in capsys.readouterr().err
    assert typed(monkeypatch, "--version") == (0, [])
    assert capsys.readouterr().out == f"latentbench {latentbench.__version__}\n"
