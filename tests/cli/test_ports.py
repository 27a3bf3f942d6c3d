"""A method on another carrier or start model than its own is named a port."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentbench.ports import label, replaced

METHODS = Path(__file__).resolve().parents[2] / "conf" / "method"
OWN = {"carrier": "hidden", "curriculum": "coconut", "sft_loss": "text"}
SOFT = {"carrier": "mixture", "curriculum": "coconut", "sft_loss": "lexical"}


@pytest.mark.parametrize(
    ("method", "choices", "start", "expected"),
    [
        ("dropout_grpo", OWN, {}, {}),
        ("dropout_grpo", OWN | {"noise": "gaussian"}, {}, {}),  # a variant, on its own carrier
        ("dropout_grpo", SOFT, {}, {"carrier": "mixture", "sft_loss": "lexical"}),
        ("dropout_grpo", OWN, SOFT, {"init carrier": "mixture", "init sft_loss": "lexical"}),
        ("dropout_grpo", OWN, {"latents": 3}, {}),
        ("latent_grpo", SOFT, SOFT, {}),
        ("latent_grpo", SOFT, OWN, {"init carrier": "hidden", "init sft_loss": "text"}),
        ("lepo", SOFT, {}, {"carrier": "mixture"}),  # its own is the wide one
        ("not_of_this_project", SOFT, OWN, {}),
    ],
)
def test_what_is_replaced(
    method: str, choices: dict[str, str], start: dict[str, str], expected: dict[str, str]
) -> None:
    port = replaced(METHODS / f"{method}.yaml", choices, start)
    assert port == expected
    assert label(method, port) == (f"{method}-port" if expected else method)


@pytest.mark.parametrize("path", sorted(METHODS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_method_says_what_its_own_is(path: Path) -> None:
    assert replaced(path, OWN, {}) is not None
