"""The vendor's own tests for calls and chats, from the source of its client, against the sandbox.

They are fetched when they run, because the project contains only its own files. Changed is this:
the marks that skip them, and ids that were made up, which become ids that exist.
"""

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version

import pytest

from receiver.sandbox.plans import BY_NAME
from receiver.sandbox.server import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]

FILES = ("call", "chat", "batch_call", "concurrency", "identity", "export_request")
KEY = "YOUR_RETELL_API_KEY"
# The line by which the vendor skips a test: it is removed, so that the test runs.
SKIPPED = '    @pytest.mark.skip(reason="Mock server tests are disabled")\n'
ANSWERED, ENDLESS = BY_NAME["answered"].number, BY_NAME["endless"].number
# What makes the objects that the ids stand for, a new one for each test.
FRESH = f"""
import httpx

from tests.conftest import api_key, base_url

AGENT = "{{agent}}"
_api = httpx.Client(base_url=base_url, headers={{{{"Authorization": f"Bearer {{{{api_key}}}}"}}}})
_last = None


def _new(path, key, **body):
    global _last
    _last = _api.post(path, json=body).raise_for_status().json()[key]
    return _last


def _call(number):
    return _new("/v2/create-phone-call", "call_id", from_number="+14155550142", to_number=number)


def ended_call():
    return _call("{ANSWERED}")


def live_call():
    return _call("{ENDLESS}")


def listener():
    return _api.post(f"/v2/listen-live-call/{{{{_last}}}}").json()["participant_id"]


def live_chat():
    return _new("/create-chat", "chat_id", agent_id=AGENT)


def ended_chat():
    _api.patch(f"/end-chat/{{{{live_chat()}}}}").raise_for_status()
    return _last


def next_page(path):
    if "export" in path:
        return "made up"
    make = live_chat if "chats" in path else ended_call
    make(), make()
    return _new(path, "pagination_key", limit=1, sort_order="ascending")
"""


def install(folder, sdk):
    """Fetch the source and what its tests need; skip where that is not possible."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    source = ["download", "--no-deps", "--no-binary", "retell-sdk", "-d", folder, sdk]
    tools = ["pytest", "pytest-asyncio", "pytest-xdist", "aiohttp", "httpx-aiohttp"]
    needed = ["install", "--target", folder / "site", sdk, *tools]
    for arguments in (source, needed):
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"{sdk} cannot be fetched from the package index")
    [archive] = folder.glob("retell_sdk-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def with_ids(text, noun):
    """The file, with an id that exists in place of each that was made up."""
    text = text.replace(SKIPPED, "")
    text = text.replace("import pytest\n", "import pytest\nfrom tests import fresh\n", 1)
    text = re.sub(r'(agent_id"?[:=] ?)"\w{32}"', r"\1fresh.AGENT", text)
    text = text.replace('="pagination_key"', f'=fresh.next_page("/v3/list-{noun}s")')
    tests = re.split(r"(?=\n    (?:async )?def test_)", text)
    for n, test in enumerate(tests):
        if "def test_path_params_" in test:
            # Sends nothing: the id is empty.
            continue
        live = re.search(r"def test_\w+_(stop|\w+_live\w*|create_chat_completion|end)\b", test)
        made = f"fresh.{'live' if live else 'ended'}_{noun}()"
        test = re.sub(r'"((call|chat)_)?[0-9a-f]{26,32}"|(?<=chat_id=)"\w{32}"', made, test)
        tests[n] = re.sub(r'"listener_\w+"', "fresh.listener()", test)
    return "".join(tests)


def test_vendor_tests_of_calls_and_chats_pass(tmp_path):
    source = install(tmp_path, f"retell-sdk=={version('retell-sdk')}")
    with Sandbox(api_key=KEY, limits=None, concurrency=100_000) as sandbox:
        fresh = FRESH.format(agent=sandbox.agents[0])
        (source / "tests/fresh.py").write_text(fresh, encoding="utf-8")
        paths = [source / f"tests/api_resources/test_{name}.py" for name in FILES]
        for name, path in zip(FILES, paths, strict=True):
            path.write_text(with_ids(path.read_text(encoding="utf-8"), name), encoding="utf-8")
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "site")}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *paths],
            cwd=source,
            env=environ | {"TEST_API_BASE_URL": sandbox.url},
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert done.returncode == 0, done.stdout[-4000:]
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed >= 400
    assert "skipped" not in done.stdout.splitlines()[-1]
    print(f"{passed} passed")
