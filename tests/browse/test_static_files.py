"""Static files are cached for ever by their hash, and everything that is text is compressed."""

import asyncio
import re
import zlib
from urllib.parse import unquote

import pytest

from receiver.browse.static_files import accepts_gzip
from receiver.store import migrate
from tests.support.browsing import browsing, session_of_admin, simple
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite

CSS = "/-/static-plugins/callhouse/callhouse.css"


@pytest.fixture
def get(settings, store):
    stored(store, simple("call_1", *[("user", f"Line {n}.") for n in range(90)]))
    with browsing(settings) as served:
        cookies = {"ds_actor": session_of_admin(served)}

        def asked(path, method="get", **headers):
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            options = {"headers": {"accept-encoding": "identity"} | headers, "cookies": cookies}
            return asyncio.run(getattr(served.client, method)(path, **options))

        asked.served = served
        yield asked


def test_static_files_have_hash_and_are_cached(get):
    named = set()
    for path in ("/", "/retell", "/retell/calls", "/-/call/call_1", "/-/dashboards/volume"):
        page = get(path).text
        files = re.findall(r"""(?:src=|href=|url\()"(/-/static[^"]+)\"""", page)
        assert files, path
        named |= set(files)
    assert len(named) > 6
    for url in named:
        assert re.search(r"\?_hash=[0-9a-f]{12}$", url), url
        answer = get(url)
        assert answer.status_code == 200, url
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert "content-security-policy" in answer.headers


def test_file_without_its_hash_is_checked_again(get):
    # Datasette adds the hash to an address without a query.
    for url in (f"{CSS}?", f"{CSS}?_hash=000000000000"):
        answer = get(url)
        assert answer.headers["cache-control"] == "no-cache"
        again = get(url, if_none_match=answer.headers["etag"])
        assert (again.status_code, again.content) == (304, b"")


def test_compressed_file_is_the_same_and_smaller(get):
    whole = get(CSS)
    small = get(CSS, accept_encoding="br, gzip")
    assert small.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in whole.headers
    # The client decompresses.
    assert small.content == whole.content
    assert int(small.headers["content-length"]) < len(whole.content) / 3
    head = get(CSS, method="head", accept_encoding="gzip")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/-/static/../app.py",
        "/-/static/%2e%2e/app.py",
        "/-/static-plugins/callhouse/../__init__.py",
        "/-/static/",
        "/-/static/missing.css",
        "/-/static/%00",
        "/-/static-plugins/nothing/app.css",
        f"/-/static/{'a' * 5000}",
        # A folder that exists, and one that does not.
        f"/-/static/{'../' * 20}etc",
        f"/-/static/{'../' * 20}nothing",
        f"/-/static-plugins/callhouse/{'%2e%2e/' * 20}etc",
    ],
)
def test_no_answer_tells_what_is_beside_the_files(get, path):
    answer = raw(get.served, path)
    assert answer == (404, b"There is no such file.")


def raw(served, path):
    """The status and body for a path as it is; a client would remove the dots."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    answered = []

    async def send(message):
        answered.append(message)

    async def receive():
        return {"type": "http.disconnect"}

    asyncio.run(served.app()(scope, receive, send))
    return answered[0]["status"], b"".join(m["body"] for m in answered[1:])


@pytest.mark.parametrize(
    "path", ["/", "/retell/calls.json", "/retell/utterances.csv?_stream=on", "/-/call/call_1"]
)
def test_pages_json_and_csv_are_compressed(get, path):
    whole, small = get(path), get(path, accept_encoding="gzip")
    assert small.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in small.headers["vary"]
    nonce = re.compile(r'nonce="[^"]*"|"query_ms": [\d.]+|value="[^"]{40,}"')
    assert nonce.sub("", small.text) == nonce.sub("", whole.text)
    assert "content-encoding" not in get(path, method="head", accept_encoding="gzip").headers


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("gzip", True),
        ("gzip, br", True),
        ("br;q=1.0, gzip;q=0.5", True),
        ("*", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
        ("xgzip", False),
    ],
)
def test_accept_encoding_is_read(value, accepted):
    assert accepts_gzip({b"accept-encoding": value.encode()}) is accepted


def test_large_and_streamed_answers_arrive_whole(get):
    """Above four megabytes, compressing would stop other requests for too long."""
    sql = "select printf('%.*c', 5000000, 'a') as long"
    answer = get(f"/retell.json?sql={sql.replace(' ', '+')}", accept_encoding="gzip")
    assert "content-encoding" not in answer.headers
    assert len(answer.content) > 5_000_000
    rows = get("/retell/utterances.csv?_stream=on", accept_encoding="gzip").text.splitlines()
    assert len(rows) == 91


def test_media_is_not_compressed():
    from receiver.browse.static_files import _Compressing

    sent = []

    async def send(message):
        sent.append(message)

    async def answer(content_type, status=200):
        compressing = _Compressing(False, send)
        headers = [(b"content-type", content_type)]
        await compressing.send(
            {"type": "http.response.start", "status": status, "headers": headers}
        )
        await compressing.send({"type": "http.response.body", "body": b"a" * 5000})

    for content_type, status in (
        (b"audio/wav", 200),
        (b"text/event-stream", 200),
        (b"text/css", 206),
    ):
        asyncio.run(answer(content_type, status))
    assert all(m.get("body", b"a" * 5000) == b"a" * 5000 for m in sent)
    sent.clear()
    asyncio.run(answer(b"text/html; charset=utf-8"))
    assert zlib.decompress(sent[1]["body"], 31) == b"a" * 5000


def test_empty_file_has_pages_with_styles(settings):
    migrate(settings.database_path, timezone="UTC")
    with browsing(settings) as served:
        page = asyncio.run(served.client.get("/-/login")).text
    assert "app.css?_hash=" in page
    assert "callhouse.css?_hash=" in page
