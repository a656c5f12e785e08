"""Helpers of tests. Tests import from here, never from each other."""

from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def slow_except(values: Iterable, *fast) -> list:
    """Parameters of a test that is slow for all values but `fast`."""
    return [v if v in fast else pytest.param(v, marks=pytest.mark.slow) for v in values]
