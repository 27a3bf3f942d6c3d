"""Which parts of a method go together: every combination is legal, or refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latentbench.errors import InputError


@dataclass(frozen=True)
class Combination:
    """What is combined: the plug-ins with the names they go by, and whether there are latent slots.

    `transforms` are in the order in which they are applied.
    """

    carrier: tuple[str, Any]
    noise: tuple[str, Any]
    latent_loss: tuple[str, Any]
    transforms: tuple[tuple[str, Any], ...]
    latent: bool = True


def objection(parts: Combination) -> str | None:
    """Why a combination makes no sense, and the way out; None for a legal one."""
    return next(_objections(parts), None)


def _objections(parts: Combination) -> Iterator[str]:
    carrier_name, carrier = parts.carrier
    noise_name, noise = parts.noise
    loss_name, loss = parts.latent_loss
    for kind in noise.acts_on:
        if kind == "scores" and kind not in carrier.sites:
            yield (
                f"noise={noise_name} with carrier={carrier_name}: it disturbs the scores that a "
                "thought is mixed from, and this carrier mixes none; use carrier=mixture"
            )
        if not parts.latent:
            yield (
                f"noise={noise_name} with no latent slots: it acts on latent slots "
                "alone; use noise=none or a mask with noise.scope=all"
            )
    if noise.scope == "latent" and not parts.latent:
        yield "noise.scope=latent with no latent slots: use noise.scope=all"
    if noise.top_k is not None and carrier.k is not None and noise.top_k > carrier.k:
        yield (
            f"noise.top_k={noise.top_k} with carrier.k={carrier.k}: the filter lets more token "
            "types through than the carrier mixes; use carrier=wide_mixture or lower noise.top_k"
        )
    if loss.scores:
        yield from _loss_objections(parts)
    names = [name for name, _ in parts.transforms]
    if "first_token" in names and not loss.scores:
        yield (
            f"transform=first_token with latent_loss={loss_name}: it chooses who updates the first "
            "latent slot, and slots are not scored here; set a latent_loss"
        )
    if "invalid_mask" in names[1:]:
        first = ",".join(sorted(names, key=lambda name: name != "invalid_mask"))
        yield (
            f"transform=[{','.join(names)}]: invalid_mask decides which rollouts the others see "
            f"and must stand first: transform=[{first}]"
        )


def _loss_objections(parts: Combination) -> Iterator[str]:
    carrier_name, carrier = parts.carrier
    noise_name, noise = parts.noise
    loss_name, loss = parts.latent_loss
    if not parts.latent:
        yield f"latent_loss={loss_name} with no latent slots: use latent_loss=none"
    if not carrier.chooses:
        yield (
            f"latent_loss={loss_name} with carrier={carrier_name}: it scores what a thought is "
            "mixed of, and this carrier mixes nothing; use carrier=mixture or latent_loss=none"
        )
    if not noise.replayed:
        yield (
            f"latent_loss={loss_name} with noise={noise_name}: stored thoughts are replayed, and "
            "this noise is defined by not being; use latent_loss=none"
        )
    if "thought" in noise.acts_on:
        yield (
            f"latent_loss={loss_name} with noise={noise_name}: the thought that is executed is not "
            "the mixture that would be scored; use latent_loss=none or noise=gumbel"
        )
    if not loss.on_policy:  # a surrogate of the scores' noise
        if "scores" not in noise.acts_on:
            yield (
                f"latent_loss={loss_name} with noise={noise_name}: without noise on the scores "
                "every margin is 0 and so is the gradient; use noise=one_sided_gumbel"
            )
        elif not noise.gumbel_margins:
            yield (
                f"latent_loss={loss_name} with noise={noise_name}: its scores are filtered and "
                "divided by tau, so their margins are no Gumbel draws; use noise=one_sided_gumbel"
            )
        elif noise.diverges == "answer":
            yield (
                f"latent_loss={loss_name} with noise={noise_name} of strength 0: every margin is 0 "
                f"and so is the gradient; set noise.{noise.strength} above 0"
            )


def check_parts(parts: Combination) -> None:
    """Raises InputError for a combination that makes no sense."""
    reason = objection(parts)
    if reason is not None:
        raise InputError(reason)


def check_vocabulary(plugins: Mapping[str, Any], size: int) -> None:
    """Refuse parts that ask for more token types than a model can write. Raises InputError."""
    for part in plugins.values():
        part.check_vocabulary(size)


# -- the matrix ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """One cell: the combination by names, and why it is refused (None: legal)."""

    carrier: str
    noise: str
    scope: str
    latent_loss: str
    transform: str
    reason: str | None


def matrix(options: Mapping[str, Sequence[tuple[str, Any]]]) -> list[Verdict]:
    """Every combination of carrier, noise with scope, latent loss and at most one transform.

    `options` has, for each of these four kinds, the plug-ins with their names; a noise that has
    scopes stands there once for each. There is no transform, or one.
    """
    verdicts = []
    for carrier in options["carrier"]:
        for noise in options["noise"]:
            for loss in options["latent_loss"]:
                for one in (None, *options["transform"]):
                    parts = Combination(carrier, noise, loss, (one,) if one else ())
                    verdicts.append(
                        Verdict(
                            carrier[0],
                            noise[0],
                            (noise[1].scope or "latent") if noise[0] != "none" else "-",
                            loss[0],
                            one[0] if one else "-",
                            objection(parts),
                        )
                    )
    return verdicts
