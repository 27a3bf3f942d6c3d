"""Fixtures of the truth tests: random twins of the model families."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from checks import FAMILIES, twin


@pytest.fixture(autouse=True)
def deterministic_flag_restored() -> Iterator[None]:
    """Lightning's `deterministic` is a global switch; no test hands it to the next."""
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(family: str) -> Any:
    """A random twin in float32."""
    return twin(family)


@pytest.fixture
def exact_model(family: str) -> Any:
    """A random twin in float64."""
    return twin(family, dtype=torch.float64)


@pytest.fixture
def gpt2() -> Any:
    return twin("gpt2")
