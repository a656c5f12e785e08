"""Helpers of tests. Tests import from here, never from each other."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
