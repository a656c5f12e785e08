"""nginx and Caddy with our configurations, in front of the real receiver and the real pages."""

import json
import os
import re
import shutil
import ssl
import subprocess
import time
from contextlib import contextmanager

import httpx
import pytest
import trustme

from receiver.webhook.signature import sign
from tests.support import ROOT, running
from tests.support.engines import url_of
from tests.support.webhooks import KEY, payload

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]
PASSWORD = "a password for the test"
HIDDEN = ("/healthz", "/metrics", "/healthz/", "//metrics", "/%6detrics", "/x/../healthz")


def port_of(address):
    return address.rpartition(":")[2]


@contextmanager
def listening(command, url, verify, environ, folder):
    """Run a proxy until the block ends."""
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    def answers():
        assert process.poll() is None, (folder / "proxy.log").read_text()
        try:
            return httpx.get(f"{url}/healthz", verify=verify).status_code
        except httpx.TransportError:
            return None

    try:
        running.wait_until(answers)
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def nginx(receiver, browse, folder):
    """nginx with our file; only ports, certificate and names of the machine are replaced."""
    authority, address = trustme.CA(), running.free_address()
    certificate = authority.issue_cert("calls.example.com", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "fullchain.pem")
    certificate.private_key_pem.write_to_path(folder / "privkey.pem")
    plain = running.free_address()
    site = (ROOT / "deploy/nginx/callhouse.conf").read_text(encoding="utf-8")
    for ours, here in (
        (r"listen \[::\]:.*", ""),
        (r"listen 80;", f"listen {plain};"),
        (r"listen 443 ", f"listen {address} "),
        (r"/etc/letsencrypt/live/calls.example.com", str(folder)),
        (r"127.0.0.1:8000", receiver),
        (r"127.0.0.1:8001", browse),
    ):
        site, count = re.subn(ours, here, site)
        assert count, ours
    kinds = "client_body_temp", "proxy_temp", "fastcgi_temp", "uwsgi_temp", "scgi_temp"
    paths = "\n".join(f"{kind}_path {folder}/{kind};" for kind in kinds)
    # As another user, its workers would have no access to the folder.
    user = "user root;" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {paths}\n{site} }}\n"
    )
    verify = ssl.create_default_context()
    authority.configure_trust(verify)
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    url = f"https://127.0.0.1:{port_of(address)}"
    with listening(command, url, verify, os.environ, folder):
        yield url, verify


@contextmanager
def caddy(receiver, browse, folder):
    """Caddy with our file; it would ask for a certificate if its address were public."""
    url = f"http://{running.free_address()}"
    file = (ROOT / "deploy/caddy/Caddyfile").read_text(encoding="utf-8")
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + file)
    environ = os.environ | {"SITE_HOST": url, "SITE_RECEIVER": receiver, "SITE_BROWSE": browse}
    environ |= {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    with listening(command, url, True, environ, folder):
        yield url, True


@pytest.fixture(scope="module")
def callhouse(engine, tmp_path_factory):
    """The addresses of a receiver and of its pages."""
    folder = tmp_path_factory.mktemp("callhouse")
    with engine.nothing() as where:
        environ = running.environment(
            RETELL_API_KEY=KEY,
            CALLHOUSE_DATABASE_URL=url_of(where),
            CALLHOUSE_BIND=running.free_address(),
            CALLHOUSE_BROWSE_BIND=running.free_address(),
            CALLHOUSE_BROWSE_PASSWORD=PASSWORD,
            CALLHOUSE_WORKERS="1",
        )
        with running.serve(environ, folder), running.browse(environ, folder):
            yield environ["CALLHOUSE_BIND"], environ["CALLHOUSE_BROWSE_BIND"]


@pytest.fixture(scope="module", params=[nginx, caddy], ids=lambda start: start.__name__)
def proxy(request, callhouse, tmp_path_factory):
    """The proxy's address, and a client that trusts its certificate."""
    if shutil.which(request.param.__name__) is None:
        pytest.skip(request.param.__name__)
    folder = tmp_path_factory.mktemp("proxy")
    with (
        request.param(*callhouse, folder) as (url, verify),
        httpx.Client(base_url=url, verify=verify, timeout=120) as client,
    ):
        yield client


def post(proxy, body, path="/webhook"):
    headers = {"X-Retell-Signature": sign(body, key=KEY, now_ms=time.time_ns() // 1_000_000)}
    return proxy.post(path, content=body, headers=headers)


def test_signed_event_is_stored_behind_a_proxy(proxy):
    body = json.dumps(payload("event-call_analyzed"), ensure_ascii=False).encode()
    assert [post(proxy, body, path).status_code for path in ("/webhook", "/webhook/")] == [204, 204]
    assert proxy.post("/webhook", content=body).status_code == 401


def test_proxy_allows_bodies_of_long_calls(proxy):
    event = payload("event-call_analyzed")
    event["call"]["transcript"] = "a" * 15_000_000
    assert post(proxy, json.dumps(event).encode()).status_code == 204
    event["call"]["transcript"] = "a" * 17_000_000
    assert post(proxy, json.dumps(event).encode()).status_code == 413


@pytest.mark.parametrize("path", HIDDEN)
def test_proxy_hides_health_and_metrics(proxy, callhouse, path):
    answer = httpx.get(f"http://{callhouse[0]}/metrics")
    assert "callhouse_events_total" in answer.text
    # As it is written here: a client would normalise it.
    request = proxy.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = proxy.send(request)
    assert "callhouse_" not in answer.text
    assert '"problems"' not in answer.text
    assert answer.status_code in (302, 404)


def test_pages_behind_a_proxy_take_the_login(proxy):
    page = proxy.get("/-/login")
    token = re.search(r'name="csrftoken" value="([^"]+)"', page.text)[1]
    form = {"username": "admin", "password": PASSWORD, "csrftoken": token}
    answer = proxy.post("/-/login", data=form)
    assert answer.status_code == 302
    cookies = answer.headers.get_list("set-cookie")
    is_secure = any("secure" in cookie.lower() for cookie in cookies if "ds_actor" in cookie)
    assert is_secure == (proxy.base_url.scheme == "https")
    assert proxy.get("/").status_code == 200
