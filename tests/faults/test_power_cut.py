"""A power cut right after any acknowledgement loses none of the events acknowledged by then."""

import pytest

from tests.faults.powercut import check_images, needs_strace, traced_load


@needs_strace
@pytest.mark.slow
def test_every_acknowledged_event_survives_a_power_cut(serve, db_path):
    load, trace, files = traced_load(serve, db_path)
    assert load.statuses == {204: 320}
    before = len(files[str(db_path)].certain)
    check_images(db_path, load, trace, files)
    assert len(files[str(db_path)].certain) > before, "the log was never written back"
