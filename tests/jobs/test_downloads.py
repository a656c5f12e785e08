"""Files from the web: whole or continued, within limits, and from public addresses alone."""

import hashlib
import os
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from receiver.config import Media
from receiver.errors import DiskReserved, LinkDead, LinkRefused, RecordingNotKept
from receiver.jobs.downloads import Downloader, Throttle, content_type_of, is_public
from tests.support.loopback import Handler, Loopback

WAV = b"RIFF\x00\x00\x00\x00WAVEfmt " + os.urandom(300_000)


def limits(**changes) -> Media:
    values = {
        "location": None,
        "max_bytes": 1_000_000,
        "reserve_bytes": 1,
        "bytes_per_second": 10**9,
        "downloads": 4,
        "allow_private": True,
    }
    return Media(**(values | changes))


class FileServer(Handler):
    """Serves `content`; `cut_after` bytes of a response it closes the connection."""

    protocol_version = "HTTP/1.1"
    content = WAV
    etag = '"one"'
    status = 200
    headers_sent: tuple = ()
    cut_after = None
    requests: list

    def do_GET(self):
        self.requests.append(dict(self.headers))
        if self.path == "/redirect":
            return self.redirect(self.location)
        if self.status != 200:
            return self.answer(self.status, b"")
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.headers.get("If-Range") == self.etag:
            start, size = int(asked[1]), len(self.content)
            span = f"bytes {start}-{size - 1}/{size}"
            return self.answer(206, self.content[start:], ("Content-Range", span))
        return self.answer(200, self.content)

    def redirect(self, location):
        self.send_response(302)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, status, body, *headers):
        self.send_response(status)
        for name, value in (("ETag", self.etag), *self.headers_sent, *headers):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.cut_after is None:
            self.wfile.write(body)
        else:
            self.wfile.write(body[: self.cut_after])
            self.close_connection = True


@pytest.fixture
def server():
    handler = type("Server", (FileServer,), {"requests": []})
    with Loopback(handler, waits=False) as loopback:
        handler.url = f"{loopback.url}/recording.wav?secret=1"
        yield handler


@pytest.fixture
def part(tmp_path) -> Path:
    return tmp_path / "partial" / "call.recording.part"


@pytest.fixture
def fetch(part):
    opened = []

    def fetch(url, *, is_audio=True, **changes):
        opened.append(Downloader(limits(**changes)))
        return opened[-1].fetch(url, part, is_audio=is_audio)

    yield fetch
    for downloader in opened:
        downloader.close()


def test_file_arrives_whole_with_its_hash(server, fetch, part):
    fetched = fetch(server.url)
    assert part.read_bytes() == WAV
    assert (fetched.bytes, fetched.content_type) == (len(WAV), "audio/wav")
    assert fetched.sha256 == hashlib.sha256(WAV).hexdigest()
    assert part.stat().st_mode & 0o777 == 0o600


def test_cut_download_continues_where_it_stopped(server, fetch, part):
    server.cut_after = 200_000
    with pytest.raises(RecordingNotKept):
        fetch(server.url)
    received = part.stat().st_size
    assert 0 < received <= 200_000
    server.cut_after = None
    assert fetch(server.url).sha256 == hashlib.sha256(WAV).hexdigest()
    assert server.requests[-1]["Range"] == f"bytes={received - 1}-"
    assert part.read_bytes() == WAV


def test_file_that_was_complete_is_complete(server, fetch, part):
    fetch(server.url)
    assert fetch(server.url).sha256 == hashlib.sha256(WAV).hexdigest()
    assert server.requests[-1]["Range"] == f"bytes={len(WAV) - 1}-"
    assert part.read_bytes() == WAV


def test_changed_file_starts_again(server, fetch, part):
    server.cut_after = 200_000
    with pytest.raises(RecordingNotKept):
        fetch(server.url)
    server.content, server.etag, server.cut_after = WAV[:12] + b"new", '"two"', None
    assert fetch(server.url).bytes == 15
    assert part.read_bytes() == WAV[:12] + b"new"


@pytest.mark.parametrize("etag", ["", 'W/"weak"', '"\xe9"', '"a b"', "bare"])
def test_file_without_strong_etag_starts_again(server, fetch, part, etag):
    server.etag, server.cut_after = etag, 200_000
    with pytest.raises(RecordingNotKept):
        fetch(server.url)
    server.cut_after = None
    fetch(server.url)
    assert "Range" not in server.requests[-1]
    assert part.read_bytes() == WAV


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_dead_link_has_its_own_error(server, fetch, status):
    server.status = status
    with pytest.raises(LinkDead):
        fetch(server.url)


def test_failing_server_is_retried_later(server, fetch):
    server.status = 503
    with pytest.raises(RecordingNotKept) as error:
        fetch(server.url)
    assert error.value.retry
    assert not isinstance(error.value, LinkDead)
    assert "secret" not in str(error.value)


def test_long_file_is_refused(server, fetch, part):
    with pytest.raises(LinkRefused) as error:
        fetch(server.url, max_bytes=len(WAV) - 1)
    assert not error.value.retry
    assert not part.exists()


def test_long_file_without_length_is_refused(server, fetch, part):
    def answer(self, status, body, *_):
        self.send_response(status)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    server.answer = answer
    with pytest.raises(LinkRefused):
        fetch(server.url, max_bytes=100_000)
    assert not part.exists()


def test_nothing_is_fetched_below_the_reserve(server, fetch, part):
    with pytest.raises(DiskReserved):
        fetch(server.url, reserve_bytes=10**18)
    assert server.requests == []


def test_file_that_would_use_the_reserve_waits(server, fetch, part):
    disk = os.statvfs(part.parents[1])
    free = disk.f_bavail * disk.f_frsize
    server.answer = lambda self, *_: announce(self, free)
    with pytest.raises(DiskReserved):
        fetch(server.url, reserve_bytes=free // 2, max_bytes=10**18)


def announce(handler, length):
    handler.send_response(200)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.close_connection = True


# -- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
def test_private_host_is_refused(server, fetch, host):
    url = server.url.replace("127.0.0.1", host)
    with pytest.raises(LinkRefused, match="not public"):
        fetch(url, allow_private=False)
    assert server.requests == []


def test_redirect_to_a_private_address_is_refused(server, fetch, monkeypatch):
    """The first host is let through as if it were public; the redirect names another."""
    monkeypatch.setattr("receiver.jobs.downloads.is_public", lambda address: address != "127.0.0.2")
    server.location = server.url.replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(LinkRefused, match="not public"):
        fetch(
            server.url.replace("recording.wav", "redirect").partition("?")[0], allow_private=False
        )
    assert len(server.requests) == 1


def test_redirect_is_followed(server, fetch, part):
    server.location = server.url
    fetch(server.url.replace("recording.wav?secret=1", "redirect"))
    assert part.read_bytes() == WAV


def test_endless_redirects_end(server, fetch):
    server.location = "/redirect"
    with pytest.raises(LinkRefused, match="too often"):
        fetch(server.url.replace("recording.wav?secret=1", "redirect"))
    assert len(server.requests) == 6


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/a", "data:,a", "//a/b"])
def test_other_schemes_are_refused(fetch, url):
    with pytest.raises(LinkRefused):
        fetch(url)


def test_redirect_to_another_scheme_is_refused(server, fetch):
    server.location = "file:///etc/passwd"
    with pytest.raises(LinkRefused):
        fetch(server.url.replace("recording.wav?secret=1", "redirect"))


def resolving(monkeypatch, *answers):
    """Resolve any name to the next of these lists of addresses; return the names asked for."""
    asked, left = [], list(answers)

    def getaddrinfo(host, port, *_, **__):
        addresses = [host]
        if host.endswith(".example"):
            asked.append(host)
            addresses = left.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_name_with_one_private_address_is_refused(server, fetch, monkeypatch):
    resolving(monkeypatch, ["93.184.216.34", "127.0.0.1"])
    with pytest.raises(LinkRefused, match="not public"):
        fetch("http://recordings.example/a.wav", allow_private=False)


def test_checked_address_is_the_one_connected_to(server, fetch, monkeypatch, part):
    port = server.url.split(":")[2].split("/")[0]
    asked = resolving(monkeypatch, ["127.0.0.1"])
    fetch(f"http://recordings.example:{port}/a.wav")
    assert asked == ["recordings.example"]
    assert server.requests[-1]["Host"] == f"recordings.example:{port}"
    assert part.read_bytes() == WAV


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1%eth0", "fc00::1",
        "fec0::1",
        "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)  # fmt: skip
def test_address_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_address_is_public(address):
    assert is_public(address)


# -- types and rate ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beginning", "declared", "expected"),
    [
        (b"RIFF\1\2\3\4WAVEfmt ", "text/html", "audio/wav"),
        (b"ID3\4", "", "audio/mpeg"),
        (b"\xff\xfb\x90", "", "audio/mpeg"),
        (b"OggS\0", "", "audio/ogg"),
        (b"something", "audio/x-wav; a=b", "audio/wav"),
        (b"something", "application/x-evil", "application/octet-stream"),
    ],
)
def test_type_of_a_recording(tmp_path, beginning, declared, expected):
    path = tmp_path / "file"
    path.write_bytes(beginning)
    assert content_type_of(path, declared, is_audio=True) == expected


@pytest.mark.parametrize(
    ("content", "declared"),
    [(b"", "audio/wav"), (b"  <html>", "audio/wav"), (b"Sorry", "text/plain")],
)
def test_page_in_place_of_a_recording_fails(tmp_path, content, declared):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(RecordingNotKept):
        content_type_of(path, declared, is_audio=True)


def test_log_is_plain_text_whatever_it_claims(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"<script>alert(1)</script>")
    assert content_type_of(path, "text/html", is_audio=False) == "text/plain"


def test_page_is_not_left_to_be_continued(server, fetch, part):
    server.content = b"<html>Please log in</html>"
    with pytest.raises(RecordingNotKept):
        fetch(server.url)
    assert not part.exists()


def test_compressed_response_is_refused(server, fetch):
    server.headers_sent = (("Content-Encoding", "gzip"),)
    with pytest.raises(RecordingNotKept, match="compressed"):
        fetch(server.url)


def test_throttle_lets_threads_share_a_rate():
    slept = []
    throttle = Throttle(1000, slept.append)
    threads = [threading.Thread(target=throttle.take, args=(500,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(slept) == pytest.approx(2, abs=0.2)


def test_download_takes_as_long_as_its_rate_says(server, fetch):
    began = time.monotonic()
    fetch(server.url, bytes_per_second=600_000)
    assert time.monotonic() - began > 0.3
