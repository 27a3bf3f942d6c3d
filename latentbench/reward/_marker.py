"""The marker that leads an answer in, as every grader reads it."""

from __future__ import annotations

from latentbench.errors import InputError


def check_marker(marker: str) -> None:
    """Raise InputError for a marker that stands everywhere."""
    if not marker:
        raise InputError("reward.marker='': must not be empty, e.g. reward.marker='#'")


def after_marker(text: str, marker: str) -> str | None:
    """What follows the last `marker`, None where there is none."""
    _, found, tail = text.rpartition(marker)
    return tail if found else None
