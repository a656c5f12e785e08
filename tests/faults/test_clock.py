"""A wrong clock and a wrong key look different."""

import re

import pytest

from tests.faults.harness import clock_ms, pair
from tests.support.running import wait_until

pytestmark = pytest.mark.slow


def counted(server):
    found = re.findall(
        r'callhouse_events_total\{outcome="(\w+)"\} (\d+)', server.get("/metrics").text
    )
    return {name: int(n) for name, n in found if n != "0"}


def test_clock_ten_minutes_off_is_stale_and_red(server):
    stored, body = pair("call")
    assert server.post(stored).status_code == 204
    assert server.post(stored, at_ms=clock_ms() - 600_000).status_code == 401
    assert server.post(body, signed_as=b"another body").status_code == 401
    wait_until(lambda: server.health()[0] == 200)
    for minutes in (-10, 10):
        stale = server.post(body, at_ms=clock_ms() + minutes * 60_000)
        assert stale.status_code == 401
        assert "clock" in stale.json()["hint"]
    status, health = server.health()
    assert (status, health["stale"]) == (503, 2)
    assert any("clock" in problem for problem in health["problems"])
    assert counted(server) == {"stored": 1, "duplicate": 1, "forged": 1, "stale": 2}
