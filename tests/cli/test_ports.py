"""A method on another carrier or start model than its own is named a port."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driver import QUICK, inside

from latentbench.carrier.hidden import Hidden
from latentbench.carrier.mixture import Mixture
from latentbench.config.plugins import configured
from latentbench.config.ports import NATIVE, description, label, origin, replaced
from latentbench.curriculum.at_once import AtOnce
from latentbench.curriculum.coconut import Coconut
from latentbench.sft_loss.lexical import Lexical
from latentbench.sft_loss.text import TextLoss

CONF = Path(__file__).resolve().parents[2] / "conf"
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
OWN = {"carrier": Hidden(), "curriculum": Coconut(), "sft_loss": TextLoss()}
SOFT = {"carrier": Mixture(), "curriculum": Coconut(), "sft_loss": Lexical()}
WIDE = SOFT | {"carrier": Mixture(k=30)}
TEN = "mixture k=10 temperature=1.0 top_p=1.0"


def said(parts: dict[str, Any]) -> dict[str, str]:
    return {kind: description(part) for kind, part in parts.items()}


@pytest.mark.parametrize(
    ("method", "parts", "start", "expected"),
    [
        ("dropout_grpo", OWN, {}, {}),
        ("dropout_grpo", OWN, said(OWN), {}),
        ("dropout_grpo", SOFT, {}, {"carrier": TEN, "sft_loss": "lexical weight=1.0"}),
        (
            "dropout_grpo",
            OWN,
            said(SOFT),
            {"init carrier": TEN, "init sft_loss": "lexical weight=1.0"},
        ),
        ("latent_grpo", SOFT, said(SOFT), {}),
        ("latent_grpo", SOFT, said(OWN), {"init carrier": "hidden", "init sft_loss": "text"}),
        ("latent_grpo", SOFT, said(WIDE), {"init carrier": TEN.replace("10", "30")}),
        ("latent_grpo", SOFT, {"carrier": "mixture"}, {}),  # made elsewhere, values unknown
        ("latent_grpo", SOFT, {"carrier": "projector"}, {"init carrier": "projector"}),
        ("lepo", SOFT, {}, {"carrier": TEN}),  # its own is the wide one
        ("lepo", WIDE, said(WIDE), {}),  # whatever the option was called
        ("lepo", SOFT | {"carrier": Mixture(k=5)}, {}, {"carrier": TEN.replace("10", "5")}),
        ("wide_soft_temp_grpo", WIDE, {}, {}),
        ("codi_grpo", OWN, {}, {"carrier": "hidden", "curriculum": "coconut", "sft_loss": "text"}),
        ("not_of_this_project", SOFT, said(OWN), {}),
    ],
)
def test_what_is_replaced(
    method: str, parts: dict[str, Any], start: dict[str, str], expected: dict[str, str]
) -> None:
    port = replaced(CONF, method, parts, start)
    assert port == expected
    assert label(method, port) == (f"{method}-port" if expected else method)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_says_what_its_own_is(method: str) -> None:
    """With all else replaced, exactly its own three plug-ins stand in the way."""
    parts = {"carrier": Hidden(), "curriculum": AtOnce(), "sft_loss": Lexical(weight=0.123)}
    port = replaced(CONF, method, parts, {})
    own_is_hidden = "hidden" in (CONF / "method" / f"{method}.yaml").read_text()
    own_is_at_once = "at_once" in (CONF / "method" / f"{method}.yaml").read_text()
    expected = {"sft_loss"}
    expected |= set() if own_is_hidden else {"carrier"}
    expected |= set() if own_is_at_once else {"curriculum"}
    assert set(port) == expected


def test_an_option_is_its_plugin_with_its_values() -> None:
    assert configured(CONF, "carrier", "wide_mixture") == replace(Mixture(), k=30)
    assert configured(CONF, "transform", "invalid_mask").variant == "zeroed"


def test_a_record_of_ours_says_what_sft_was_done_with() -> None:
    """A converted checkpoint says its carrier alone."""
    assert origin({"latents": 3, "carrier": "mixture", "sft": said(OWN)}) == said(OWN)
    assert origin({"latents": 3, "carrier": "projector"}) == {"carrier": "projector"}
    assert origin({}) == {}


def test_a_model_keeps_what_its_start_was_made_with(tmp_path: Path) -> None:
    """A port's model is the start of a port, also for the method whose carrier the port had."""
    inits = f"init.root={tmp_path / 'inits'}"

    def run(name: str, *overrides: str) -> dict[str, Any]:
        outcome = inside(*QUICK, inits, f"hydra.run.dir={tmp_path / name}", *overrides)
        assert outcome.code == 0, outcome
        return json.loads((tmp_path / name / "result.json").read_text())

    (tmp_path / "inits").mkdir()
    assert run("coconut", "method=coconut")["method"] == "coconut"
    start = f"init.path={tmp_path / 'coconut'}"
    first = run("first", "method=dropout_grpo", start, "carrier=wide_mixture")
    assert first["method"] == "dropout_grpo-port" and set(first["port"]) == {"carrier"}
    record = json.loads((tmp_path / "first/model/latentbench.json").read_text())
    assert record["carrier"] == "mixture" and record["carrier_settings"]["k"] == 30
    assert record["sft"] == said(OWN)
    assert set(record["sft"]) == set(NATIVE)
    second = run("second", "method=lepo", f"init.path={tmp_path / 'first'}")
    assert second["method"] == "lepo-port"
    assert second["port"] == {"init carrier": "hidden", "init sft_loss": "text"}
