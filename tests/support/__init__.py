"""Helpers that tests of several folders use."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""
