"""Chain arithmetic modulo a small number: a task a tiny model learns, without any download."""

from __future__ import annotations

from dataclasses import dataclass, field

from latentbench.data._chains import Chains


@dataclass(frozen=True)
class Arithmetic(Chains):
    """Chains like `3+4-9=` with steps `<3+4=7>` `<7-9=8>` and the answer `8`, modulo `modulus`."""

    name: str = "arithmetic"
    lengths: list[int] = field(default_factory=lambda: [2, 2, 3])
