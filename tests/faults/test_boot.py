"""Eight servers that start at once on a file that is not there yet."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.checking import check
from tests.faults.harness import pair, sha256


@pytest.mark.slow
def test_eight_first_starts_at_once_all_serve(serve, tmp_path):
    db_path = tmp_path / "data" / "new.db"
    servers = [serve(db_path, workers=1) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda server: server.start(), servers))
        bodies = [pair(f"call_{n}")[0] for n in range(8)]
        answers = list(pool.map(lambda server, body: server.post(body), servers, bodies))
    assert [answer.status_code for answer in answers] == [204] * 8
    acked = {sha256(body) for body in bodies}
    check(db_path, acked, acked)
