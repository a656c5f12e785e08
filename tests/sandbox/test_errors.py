"""What the sandbox refuses, and how: statuses, bodies, limits, idempotency."""

import httpx
import pytest

from receiver.errors import ApiError
from receiver.sandbox.operations import IDEMPOTENT_MS
from receiver.sandbox.plans import BY_NAME
from receiver.sandbox.server import LIMITS, Limit, RateLimiter, Sandbox
from tests.support.webhooks import KEY, NOW_MS

SOLAR = "+12065550117"
ANSWERED = BY_NAME["answered"].number
ORDER = {"from_number": SOLAR, "to_number": ANSWERED}


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self):
        self.ms = NOW_MS

    def __call__(self):
        return self.ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def api(clock):
    with Sandbox(api_key=KEY, now_ms=clock) as sandbox, client(sandbox) as api:
        yield api


def client(sandbox):
    return httpx.Client(
        base_url=sandbox.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=30
    )


def place(api, **body):
    return api.post("/v2/create-phone-call", json=ORDER | body)


@pytest.mark.parametrize(
    "authorization", [None, "", KEY, f"Bearer {KEY}x", f"bearer {KEY}", "Bearer", "Bearer ключ"]
)
def test_without_the_key_everything_is_401(api, authorization):
    headers = {} if authorization is None else {"Authorization": authorization.encode()}
    with httpx.Client(base_url=api.base_url, headers=headers, timeout=30) as stranger:
        for method, path in (("POST", "/v3/list-calls"), ("GET", "/v2/get-call/x"), ("GET", "/")):
            answer = stranger.request(method, path)
            assert answer.status_code == 401
            assert answer.json() == {"status": "error", "message": "API key is missing or invalid."}


@pytest.mark.parametrize(
    "body",
    [
        {"from_number": SOLAR},
        {"to_number": ANSWERED},
        ORDER | {"to_number": ""},
        ORDER | {"to_number": "15005550001"},
        ORDER | {"to_number": "+0155"},
        ORDER | {"to_number": "+1 500 555"},
        ORDER | {"from_number": "iatizeia"},
        ORDER | {"to_number": 15005550001},
        ORDER | {"metadata": "text"},
        ORDER | {"metadata": None},
        ORDER | {"metadata": {"large": "x" * 50_000}},
        ORDER | {"retell_llm_dynamic_variables": {"number": 42}},
        ORDER | {"custom_sip_headers": {"Lead": "1"}},
        ORDER | {"override_agent_version": 1.5},
        ORDER | {"override_agent_id": ""},
        ORDER | {"ignore_e164_validation": "true"},
    ],
)
def test_invalid_body_is_400_with_field_name(api, body):
    answer = api.post("/v2/create-phone-call", json=body)
    assert answer.status_code == 400
    assert answer.json()["status"] == "error"
    message = answer.json()["message"]
    # A missing field, or the one that differs.
    [wrong] = ORDER.keys() - body.keys() or {n for n in body if body[n] != ORDER.get(n, ...)}
    assert wrong in message
    assert "5550001" not in message
    assert "xxx" not in message


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"\xff", b"null"])
def test_a_body_that_is_no_object_is_400(api, body):
    for path in ("/v2/create-phone-call", "/v3/list-calls"):
        assert api.post(path, content=body).status_code == 400


def test_pseudo_number_is_accepted_without_validation(api):
    answer = place(api, from_number="iatizeia", ignore_e164_validation=True)
    assert (answer.status_code, answer.json()["from_number"]) == (201, "iatizeia")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v2/get-call/call_nobody", None, 404),
        ("DELETE", "/v2/delete-call/call_nobody", None, 404),
        ("PATCH", "/v2/update-call/call_nobody", {}, 404),
        ("POST", "/v2/stop-call/call_nobody", None, 404),
        ("PUT", "/rerun-call-analysis/call_nobody", None, 404),
        ("GET", "/get-agent/agent_nobody", None, 404),
        ("PATCH", "/update-agent/agent_nobody", {}, 404),
        ("GET", "/list-agent-versions/agent_nobody", None, 404),
        ("POST", "/v2/create-phone-call", ORDER | {"override_agent_id": "agent_nobody"}, 422),
        ("POST", "/v2/create-phone-call", ORDER | {"override_agent_version": 99}, 422),
        ("POST", "/v2/create-phone-call", ORDER | {"override_agent_version": "no tag"}, 422),
        ("POST", "/v2/create-web-call", {"agent_id": "agent_nobody"}, 422),
        ("POST", "/v3/create-web-call", {}, 400),
        ("POST", "/v3/list-calls", {"limit": 0}, 400),
        ("POST", "/v3/list-calls", {"limit": 1001}, 400),
        ("POST", "/v3/list-calls", {"skip": -1}, 400),
        ("POST", "/v3/list-calls", {"pagination_key": "not valid"}, 400),
        ("POST", "/v3/list-calls", {"sort_order": "newest"}, 400),
        ("POST", "/v3/list-calls", {"filter_criteria": {"agent_id": ["an old filter"]}}, 400),
        ("POST", "/v3/list-calls", {"filter_criteria": {"call_type": ["web_call"]}}, 400),
        ("POST", "/v2/list-calls", {}, 404),
        ("GET", "/v2/create-phone-call", None, 405),
    ],
)
def test_unknown_ids_and_methods_are_refused(api, method, path, body, status):
    answer = api.request(method, path, json=body)
    assert answer.status_code == status
    assert answer.json()["status"] == "error"


def test_key_and_skip_exclude_each_other(api):
    assert api.post("/v3/list-calls", json={"pagination_key": "x", "skip": 1}).status_code == 400


def test_idempotency_key_makes_one_call_an_hour(api, clock):
    first = place(api, idempotency_key="row 1")
    clock.ms += IDEMPOTENT_MS - 1
    again = place(api, idempotency_key="row 1")
    assert (again.status_code, again.json()) == (201, first.json())
    other = place(api, idempotency_key="row 2")
    assert other.json()["call_id"] != first.json()["call_id"]
    clock.ms += 1
    assert place(api, idempotency_key="row 1").json()["call_id"] != first.json()["call_id"]


def test_rejected_request_keeps_its_idempotency_key(api):
    refused = place(api, to_number=BY_NAME["refused-500"].number, idempotency_key="row 1")
    assert refused.status_code == 500
    assert place(api, idempotency_key="row 1").status_code == 201


def test_limits_are_those_that_are_documented():
    documented = {
        "create": Limit(1000, 10_000),
        "create_errors": Limit(60, 60_000),
        "list": Limit(15, 10_000),
        "other": Limit(100, 10_000),
    }
    assert documented == LIMITS


def test_sixteenth_list_in_ten_seconds_is_429(api, clock):
    for remaining in range(14, -1, -1):
        answer = api.post("/v3/list-calls")
        assert answer.status_code == 200
        assert answer.headers["RateLimit-Remaining"] == str(remaining)
    clock.ms += 4_000
    refused = api.post("/v3/list-calls")
    assert refused.status_code == 429
    assert refused.json()["status"] == "error"
    assert refused.headers["X-RateLimit-Limiter"] == "list"
    assert refused.headers["RateLimit-Limit"] == "15"
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert refused.headers["RateLimit-Reset"] == "6"
    assert api.post("/v2/list-agents").status_code == 200, "each route has its own"
    clock.ms += 6_000
    assert api.post("/v3/list-calls").status_code == 200


def test_the_hundred_and_first_other_request_is_429(api):
    statuses = [api.get("/v2/get-call/x").status_code for _ in range(101)]
    assert statuses == [404] * 100 + [429]


def test_sixty_refused_creations_a_minute_are_enough(api, clock):
    statuses = [place(api, to_number="").status_code for _ in range(60)]
    assert statuses == [400] * 60
    assert place(api).status_code == 429
    clock.ms += 60_000
    assert place(api).status_code == 201


def test_limits_can_be_set_and_switched_off(clock):
    few = {"create": Limit(2, 1000)}
    with Sandbox(api_key=KEY, now_ms=clock, limits=few) as sandbox, client(sandbox) as api:
        assert [place(api).status_code for _ in range(3)] == [201, 201, 429]
    with Sandbox(api_key=KEY, now_ms=clock, limits=None) as sandbox, client(sandbox) as api:
        answers = [api.post("/v3/list-calls") for _ in range(20)]
        assert {answer.status_code for answer in answers} == {200}
        assert "RateLimit-Limit" not in answers[0].headers


def test_limiter_admits_its_limit_per_window():
    limiter = RateLimiter({"list": Limit(3, 100)})
    admitted = []
    for now_ms in range(0, 1000, 7):
        try:
            limiter.check("list", "route", now_ms)
        except ApiError:
            continue
        limiter.count("list", "route", now_ms)
        admitted.append(now_ms)
    assert all(sum(start <= at < start + 100 for at in admitted) <= 3 for start in range(0, 1000))
    assert len(admitted) == 30


def test_calls_beyond_the_concurrency_are_429(clock):
    with (
        Sandbox(api_key=KEY, now_ms=clock, speed=1, concurrency=2) as sandbox,
        client(sandbox) as api,
    ):
        assert [place(api).status_code for _ in range(3)] == [201, 201, 429]
        api.post(f"/v2/stop-call/{next(iter(sandbox.calls))}")
