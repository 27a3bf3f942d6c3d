"""Evaluation: benchmark items through a policy to rows of the items file."""
