"""Attacks on a running `callhouse browse`: it answers others meanwhile, stays small, and ends."""

import logging
import os
import re
import resource
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest

from receiver.browse import access, http_server, pool
from receiver.browse.pool import QueryPool, TooManyQueries
from receiver.store import migrate
from tests.support import running
from tests.support.running import wait_until

# Datasette serves files.
pytestmark = pytest.mark.sqlite

# docs/reference/access.md promises this.
MAX_RSS_MB = 1500
# Generous: the machine may be busy. Without the bounds, there is no answer at all.
ANSWERED_SECONDS = 10
LONG = "with x(a) as (select printf('%.*c', 15000000, 'a'))"
LONG_TEXT = "printf('%.*c', 15000000, 'a')"
NUMBERS = "with recursive n(i) as (select 1 union all select i + 1 from n)"


@pytest.fixture(scope="module")
def tokens():
    return {}


@pytest.fixture(scope="module")
def browsing(tmp_path_factory, tokens):
    """A running browse on an empty database, with three logins."""
    with started(tmp_path_factory.mktemp("attacked"), tokens) as found:
        yield found


class started:
    """Start browse with tokens of three logins, which are put into `tokens`."""

    def __init__(self, folder, tokens):
        path = folder / "retell.db"
        migrate(path, timezone="UTC")
        known = access.AccessList()
        for name in ("ann", "bob", "cy"):
            known.tokens[name], tokens[name] = access.new_token("reader")
        access.save(access.path_beside(path), known)
        self.address = running.free_address()
        environ = running.environment(
            CALLHOUSE_DATABASE_URL=f"sqlite:///{path}",
            CALLHOUSE_BROWSE_BIND=self.address,
            CALLHOUSE_BROWSE_PASSWORD="sesame",
        )
        self._command = running.browse(environ, folder)

    def __enter__(self):
        self.command = self._command.__enter__()
        return self

    def __exit__(self, *error):
        self._command.__exit__(*error)

    def get(self, path, token=None, **params):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://{self.address}{path}"
        return httpx.get(url, params=params or None, headers=headers, timeout=60)

    def ask(self, sql, token):
        return self.get("/retell.json", token, sql=sql, _shape="arrays")

    def peak_rss_mb(self):
        status = Path(f"/proc/{self.command.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024

    def cpu_seconds(self):
        stat = Path(f"/proc/{self.command.process.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def login_seconds(self):
        began = time.monotonic()
        assert self.get("/-/login").status_code == 200
        return time.monotonic() - began


def asked_by_all(browsing, tokens, sql):
    """Let every login ask at once. Returns the answers and how long the login page took at most."""
    answers, slowest = [], 0.0
    threads = [
        threading.Thread(target=lambda t=t: answers.append(browsing.ask(sql, t)))
        for t in tokens.values()
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        slowest = max(slowest, browsing.login_seconds())
        time.sleep(0.05)
    assert len(answers) == len(threads)
    return answers, slowest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sql", "status"),
    [
        (f"{LONG} select instr(a, substr(a, 1, 7000000) || 'b') from x", 200),
        (f"{LONG} select length(replace(a, substr(a, 1, 7000000) || 'b', '')) from x", 200),
        (f"{LONG} select length(trim(a, substr(a, 1, 7000000) || 'b')) from x", 200),
        (f"{LONG} select a like '%' || substr(a, 1, 40000) || 'b%' from x", 400),
        (f"{LONG} select a glob '*' || substr(a, 1, 40000) || 'b*' from x", 400),
        (f"{LONG} select replace(a, 'a', a) from x", 400),
        ("select printf('%.*c', 900000000, 'a')", 400),
        ("select zeroblob(900000000)", 400),
        (
            "with recursive x(a) as (select 'aé' union all select a || a from x) select a from x",
            400,
        ),
        (f"{NUMBERS} select i, printf('%.*c', 15000000, 'a') from n", 400),
        # As JSON, six bytes for each character.
        (f"select replace({LONG_TEXT}, 'a', char(1))", 400),
        (
            f"{NUMBERS} select printf('%.*c', 100000, 'a') || i * 7919 % 10007 from n order by 1",
            400,
        ),
        (
            "with a0 as (select 1 x), "
            + ", ".join(f"a{n + 1} as (select p.x from a{n} p, a{n} q)" for n in range(25))
            + " select * from a25",
            400,
        ),
    ],
)
def test_costly_sql_is_bounded_in_time_and_memory(browsing, tokens, sql, status):
    answers, slowest = asked_by_all(browsing, tokens, sql)
    assert {answer.status_code for answer in answers} == {status}
    assert slowest < ANSWERED_SECONDS
    assert browsing.peak_rss_mb() < MAX_RSS_MB


# SQLite looks at the clock between rows, and this has one row. Five of them need more than a
# minute of a processor. The address of one has nearly 64 KB.
UNSTOPPABLE = (
    f"select {', '.join(['-'.join(['length(hex(x))'] * 900)] * 3)}"
    " from (select printf('%.*c', 3000000, 'a') x)"
)
END_CPU_SECONDS = 30


@pytest.mark.slow
def test_unstoppable_queries_delay_no_others_and_no_exit(tmp_path):
    tokens = {}

    def ask(token):
        with suppress(httpx.TransportError):
            browsing.ask(UNSTOPPABLE, token)

    with started(tmp_path, tokens) as browsing:
        pid, idle = browsing.command.process.pid, browsing.cpu_seconds()
        threads = [
            threading.Thread(target=ask, args=(tokens[name],), daemon=True)
            for name in ("ann", "ann", "ann", "ann", "bob", "bob")
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: browsing.cpu_seconds() > idle + 1, seconds=60)
        assert browsing.get("/-/login").status_code == 200
        assert browsing.ask("select 7", tokens["cy"]).json()["rows"] == [[7]]
        browsing.command.process.terminate()
        ended = os.WEXITED | os.WNOWAIT | os.WNOHANG
        wait_until(lambda: os.waitid(os.P_PID, pid, ended), seconds=120)
        # The time of its processors tells, whatever else the machine does: no query was over.
        assert browsing.cpu_seconds() - idle < END_CPU_SECONDS
        assert browsing.command.process.wait() == 0
        assert "Traceback" not in browsing.command.output()
        for thread in threads:
            thread.join(timeout=60)


def silent(address, count):
    """Sockets that send nothing, as far as they are accepted."""
    host, _, port = address.partition(":")
    return [socket.create_connection((host, int(port)), timeout=10) for _ in range(count)]


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_silent_sockets_are_closed_and_block_nobody(browsing, many_files):
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(closing(s))
            for s in silent(browsing.address, http_server.MAX_CONNECTIONS + 500)
        ]
        for _ in range(5):
            assert browsing.login_seconds() < ANSWERED_SECONDS
        deadline = time.monotonic() + 6 * http_server.HEAD_SECONDS
        for one in sockets:
            one.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                assert one.recv(1) == b""
            except ConnectionResetError:
                continue
    assert len(browsing.command.output()) < 20_000
    assert "Traceback" not in browsing.command.output()


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent",
    [
        b"GET /-/login HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /-/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\nusername=",
    ],
)
def test_slow_request_is_disconnected(browsing, sent):
    [client] = silent(browsing.address, 1)
    with closing(client):
        client.sendall(sent)
        client.settimeout(1)
        for _ in range(int(2 * http_server.BODY_SECONDS)):
            try:
                client.sendall(b"a")
                if client.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("the connection is still open")


def test_large_body_is_refused_without_memory(browsing):
    before = browsing.peak_rss_mb()
    [client] = silent(browsing.address, 1)
    with closing(client):
        client.sendall(
            b"POST /-/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        )
        sent, answer = 0, b""
        try:
            while sent < 200_000_000 and not answer:
                client.sendall(b"10000\r\n" + b"a" * 65_536 + b"\r\n")
                sent += 65_536
                client.settimeout(0.001)
                with suppress(TimeoutError):
                    answer = client.recv(4096)
                client.settimeout(10)
        except OSError:
            pass
    assert sent < 20_000_000
    assert browsing.peak_rss_mb() - before < 50
    assert browsing.login_seconds() < ANSWERED_SECONDS


@pytest.mark.slow
def test_client_that_reads_nothing_is_disconnected(browsing, tokens):
    sql = f"select {LONG_TEXT}"
    head = f"GET /retell.json?{httpx.QueryParams(sql=sql)} HTTP/1.1\r\nHost: x\r\n"
    with closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = browsing.address.partition(":")
        client.connect((host, int(port)))
        client.sendall(f"{head}Authorization: Bearer {tokens['ann']}\r\n\r\n".encode())
        time.sleep(2 * http_server.ANSWER_SECONDS + 5)
        client.settimeout(10)
        taken = 0
        with suppress(ConnectionResetError):
            while found := client.recv(1_000_000):
                taken += len(found)
    assert taken < 10_000_000


@pytest.mark.slow
def test_unread_responses_are_bounded_overall(tmp_path):
    """Clients are cut off before each of them is late."""
    tokens = {}
    with started(tmp_path, tokens) as browsing, ExitStack() as stack:
        path = f"/retell.json?{httpx.QueryParams(sql=f'select {LONG_TEXT}')}"
        began = time.monotonic()
        clients = [stack.enter_context(closing(socket.socket())) for _ in range(30)]
        for client, token in zip(clients, list(tokens.values()) * 10, strict=True):
            # Else the kernel takes most of it.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            host, _, port = browsing.address.partition(":")
            client.connect((host, int(port)))
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
            client.sendall(head.encode())

        def connected():
            """As the kernel has it: nothing reaches clients that do not read."""
            lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
            found = [(line.split()[1], line.split()[3]) for line in lines]
            return sum(local.endswith(f":{int(port):04X}") and is_ == "01" for local, is_ in found)

        assert connected() == 30
        wait_until(lambda: connected() <= 25, seconds=http_server.ANSWER_SECONDS - 5)
        assert time.monotonic() - began < http_server.ANSWER_SECONDS
        assert browsing.peak_rss_mb() < MAX_RSS_MB
        assert browsing.login_seconds() < ANSWERED_SECONDS


def test_log_lines_are_limited_per_kind():
    few, written = http_server.LineLimit(), []
    for second in range(0, 120, 2):
        for kind in ("failed login as %s", "a connection failed: %s"):
            record = logging.LogRecord("x", logging.WARNING, "", 0, kind, ("ann",), None)
            record.created = second
            if few.filter(record):
                written.append(record.getMessage())
    assert len(written) == 2 * 2 * 10
    assert sum("left out" in line for line in written) == 4


def test_too_many_waiting_queries_are_refused():
    queries, go_on = QueryPool(stuck_after_seconds=60), threading.Event()
    running = threading.Barrier(pool.THREADS_PER_LOGIN + 1)

    def query():
        running.wait(timeout=30)
        go_on.wait()

    try:
        for _ in range(pool.THREADS_PER_LOGIN):
            queries.submit("ann", query)
        running.wait(timeout=30)
        for _ in range(pool.MAX_WAITING_PER_LOGIN):
            queries.submit("ann", go_on.wait)
        with pytest.raises(TooManyQueries):
            queries.submit("ann", go_on.wait)
        assert queries.submit("bob", lambda: 7).result(timeout=10) == 7
    finally:
        go_on.set()
        queries.close()
