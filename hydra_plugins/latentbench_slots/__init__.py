"""Hydra launcher plug-in: each job of a sweep runs in a fresh process, one per slot."""
