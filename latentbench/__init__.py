"""latentbench: does X help a latent-reasoning model learn by reinforcement?"""

from pathlib import Path

__version__ = "0.1.0"

# analysis/ lies at the top of a checkout, where users look, and inside the package in a wheel.
if not (Path(__file__).parent / "analysis").is_dir():
    __path__.append(str(Path(__file__).resolve().parents[1]))
