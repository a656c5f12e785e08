"""The fixture of tests that read pages."""

from dataclasses import replace

import pytest

from tests.support.browsing import visiting


@pytest.fixture
def browse(settings):
    """Get a page as admin, times in Berlin's zone."""
    with visiting(replace(settings, timezone="Europe/Berlin")) as get:
        yield get
