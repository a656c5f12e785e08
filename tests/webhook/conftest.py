"""Clients of the receiver, in process."""

import pytest

from tests.webhook.requesting import LIMIT, clients


@pytest.fixture
def serve(settings):
    with clients(settings) as start:
        yield start


@pytest.fixture
def small(serve):
    """A client of an app that takes LIMIT bytes."""
    return serve(max_body_bytes=LIMIT)
