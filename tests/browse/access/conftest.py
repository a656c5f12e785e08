"""Datasette with a call and a chat full of personal data, and who visits it."""

import pytest

from tests.browse.access.roles import acquainted, serving_personal
from tests.support.browsing import visitor


@pytest.fixture
def known(db_path):
    return acquainted(db_path)


@pytest.fixture
def served(settings, known, store, db):
    with serving_personal(settings, store, db) as served:
        yield served


@pytest.fixture
def visit(served, known):
    return visitor(served, known)
