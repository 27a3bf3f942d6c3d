"""latentbench: does X help a latent-reasoning model learn by reinforcement?"""

__version__ = "0.1.0"
