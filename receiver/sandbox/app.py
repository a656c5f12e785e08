"""The sandbox's HTTP: Retell's routes, and what its errors look like. Knows Flask."""

import hmac
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from receiver.errors import Refusal
from receiver.sandbox.operations import AgentOperations, Operations
from receiver.sandbox.orders import INVALID
from receiver.sandbox.wire import compact

_CREATE = "POST /v2/create-phone-call"
# Method, path, status and what answers, given the id in the path.
Route = tuple[str, str, int, Callable[[str], Any]]
# Said about each answer: method, path, status.
Say = Callable[[str, str, int], None]


RATE_LIMITED = "Account rate limited, please throttle your requests."


@dataclass(frozen=True)
class Limit:
    """At most `requests` within `window_ms`."""

    requests: int
    window_ms: int


# Per account and route; `create_errors` counts what create-phone-call refused.
LIMITS: Mapping[str, Limit] = {
    "create": Limit(1000, 10_000),
    "create_errors": Limit(60, 60_000),
    "list": Limit(15, 10_000),
    "other": Limit(100, 10_000),
}


@dataclass
class RateLimiter:
    """The requests of the last window, route by route. Not thread-safe by itself."""

    limits: Mapping[str, Limit]
    _seen: dict[tuple[str, str], deque[int]] = field(default_factory=dict)

    def admit(self, name: str, route: str, now_ms: int) -> dict[str, str]:
        """Count a request and return its headers. Raises Refusal 429 when there is no room."""
        self.check(name, route, now_ms)
        return self.count(name, route, now_ms)

    def check(self, name: str, route: str, now_ms: int) -> None:
        """Raise Refusal 429 when there is no room, without counting."""
        limit = self.limits.get(name)
        if limit is not None:
            seen = self._within(name, route, limit, now_ms)
            if len(seen) >= limit.requests:
                raise Refusal(429, RATE_LIMITED, _headers(name, limit, seen, now_ms))

    def count(self, name: str, route: str, now_ms: int) -> dict[str, str]:
        """Count a request and return its headers; none where there is no limit."""
        limit = self.limits.get(name)
        if limit is None:
            return {}
        seen = self._within(name, route, limit, now_ms)
        seen.append(now_ms)
        return _headers(name, limit, seen, now_ms)

    def _within(self, name: str, route: str, limit: Limit, now_ms: int) -> deque[int]:
        seen = self._seen.setdefault((name, route), deque())
        while seen and seen[0] <= now_ms - limit.window_ms:
            seen.popleft()
        return seen


def _headers(name: str, limit: Limit, seen: deque[int], now_ms: int) -> dict[str, str]:
    until_ms = (seen[0] if seen else now_ms) + limit.window_ms - now_ms
    return {
        "X-RateLimit-Limiter": name,
        "RateLimit-Limit": str(limit.requests),
        "RateLimit-Remaining": str(limit.requests - len(seen)),
        "RateLimit-Reset": str(max(1, -(-until_ms // 1000))),
    }


def create_app(
    operations: Operations,
    agents: AgentOperations,
    *,
    api_key: str,
    limits: Mapping[str, Limit],
    now_ms: Callable[[], int],
    say: Say,
) -> Flask:
    """Return the API of one account."""
    app = Flask("callhouse-sandbox", static_folder=None)
    for method, path, status, answer in _routes(operations, agents):
        view = partial(_answer, answer, status)
        app.add_url_rule(path, f"{method} {path}", view, methods=[method])
    _refusals(app)
    limiter, lock = RateLimiter(limits), threading.Lock()

    @app.before_request
    def admit() -> None:
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {api_key}".encode()):
            raise Refusal(401, "API key is missing or invalid.")
        endpoint = request.endpoint or ""
        with lock:
            if endpoint == _CREATE:
                limiter.check("create_errors", endpoint, now_ms())
            request.environ["limits"] = limiter.admit(_limit_of(endpoint), endpoint, now_ms())

    @app.after_request
    def count(response: Response) -> Response:
        if request.endpoint == _CREATE and 400 <= response.status_code < 500:
            with lock:
                limiter.count("create_errors", _CREATE, now_ms())
        response.headers.update(request.environ.get("limits", {}))
        say(request.method, request.path, response.status_code)
        return response

    return app


def _limit_of(endpoint: str) -> str:
    if endpoint == _CREATE:
        return "create"
    return "list" if "/list-" in endpoint else "other"


def _routes(operations: Operations, agents: AgentOperations) -> Iterator[Route]:
    """Yield method, path, status and what answers; `id` is the call or agent in the path."""
    calls = operations
    yield "POST", "/v2/create-phone-call", 201, lambda _: calls.create_phone_call(_body())
    yield "POST", "/v2/create-web-call", 201, lambda _: calls.create_web_call(_body())
    yield "POST", "/v3/create-web-call", 201, lambda _: calls.join_web_call(_body())
    yield "GET", "/v2/get-call/<call_id>", 200, calls.get_call
    yield "POST", "/v3/list-calls", 200, lambda _: calls.list_calls(_body())
    yield "PATCH", "/v2/update-call/<call_id>", 200, lambda id: calls.update_call(id, _body())
    yield "DELETE", "/v2/delete-call/<call_id>", 204, calls.delete_call
    yield "POST", "/v2/stop-call/<call_id>", 204, calls.stop_call
    yield "PUT", "/rerun-call-analysis/<call_id>", 200, calls.rerun_analysis
    yield "POST", "/v2/list-agents", 200, lambda _: agents.list_agents(_query(), _body())
    versions, get = "/list-agent-versions/<agent_id>", "/get-agent/<agent_id>"
    yield "GET", versions, 200, lambda id: agents.list_versions(id, _query())
    yield "GET", get, 200, lambda id: agents.get_agent(id, _query())
    update = "/update-agent/<agent_id>"
    yield "PATCH", update, 200, lambda id: agents.update_agent(id, _query(), _body())


def _refusals(app: Flask) -> None:
    @app.errorhandler(Refusal)
    def refuse(error: Refusal) -> Response:
        response = _json({"status": "error", "message": str(error)}, error.status)
        response.headers.update(error.headers)
        return response

    @app.errorhandler(HTTPException)
    def explain(error: HTTPException) -> Response:
        return _json({"status": "error", "message": error.name}, error.code or 500)


def _body() -> Any:
    """The JSON body; an absent one is an empty object. Raises Refusal 400."""
    if not request.get_data():
        return {}
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise Refusal(400, INVALID)
    return body


def _query() -> dict[str, str]:
    return request.args.to_dict()


def _answer(answer: Callable[[str], Any], status: int, **path: str) -> Response:
    value = answer(next(iter(path.values()), ""))
    return Response(status=204) if status == 204 else _json(value, status)


def _json(value: Any, status: int = 200) -> Response:
    return Response(compact(value), status, content_type="application/json; charset=utf-8")
