"""A local Retell: its API on a port of this machine, and its webhooks. Uses Flask.

with Sandbox(api_key="key_...", webhook_url="http://127.0.0.1:8000/webhook") as sandbox:
    client = retell.Retell(api_key="key_...", base_url=sandbox.url)
"""

import hmac
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any, Self

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response as BaseResponse

from receiver.errors import ApiError, SettingsError
from receiver.sandbox.chat_operations import ChatOperations
from receiver.sandbox.companies import Account
from receiver.sandbox.days import DAY_MS, Story, stories
from receiver.sandbox.deliveries import Delivery, Mischief, Reporter
from receiver.sandbox.operations import AgentOperations, CallOperations
from receiver.sandbox.orders import INVALID
from receiver.sandbox.plans import BY_NAME
from receiver.sandbox.templates import read_data
from receiver.sandbox.wire import Json, compact
from receiver.sandbox.workspace import StoredCall, Workspace, clock_ms

_CREATE = "POST /v2/create-phone-call"
_MEDIA = "/media/<call_id>/<path:name>"
# Called for each response with method, path and status.
Say = Callable[[str, str, int], None]


RATE_LIMITED = "Account rate limited, please throttle your requests."


@dataclass(frozen=True)
class Limit:
    """At most `requests` within `window_ms`."""

    requests: int
    window_ms: int


LIMITS: Mapping[str, Limit] = {
    name: Limit(*limit) for name, limit in read_data("data/calls.yaml")["limits"].items()
}


@dataclass
class RateLimiter:
    """Counts the requests of the last window by route. Not thread-safe."""

    limits: Mapping[str, Limit]
    _seen: dict[tuple[str, str], deque[int]] = field(default_factory=dict)

    def check(self, name: str, route: str, now_ms: int) -> None:
        """Raise ApiError 429 over the limit, without counting."""
        if name in self.limits:
            seen = self._within(name, route, now_ms)
            if len(seen) >= self.limits[name].requests:
                raise ApiError(429, RATE_LIMITED, self._headers(name, seen, now_ms))

    def count(self, name: str, route: str, now_ms: int) -> dict[str, str]:
        """Count a request and return its headers; none without a limit."""
        if name not in self.limits:
            return {}
        seen = self._within(name, route, now_ms)
        seen.append(now_ms)
        return self._headers(name, seen, now_ms)

    def _within(self, name: str, route: str, now_ms: int) -> deque[int]:
        seen = self._seen.setdefault((name, route), deque())
        while seen and seen[0] <= now_ms - self.limits[name].window_ms:
            seen.popleft()
        return seen

    def _headers(self, name: str, seen: deque[int], now_ms: int) -> dict[str, str]:
        limit = self.limits[name]
        until_ms = (seen[0] if seen else now_ms) + limit.window_ms - now_ms
        return {
            "X-RateLimit-Limiter": name,
            "RateLimit-Limit": str(limit.requests),
            "RateLimit-Remaining": str(limit.requests - len(seen)),
            "RateLimit-Reset": str(max(1, -(-until_ms // 1000))),
        }


def create_app(
    operations: CallOperations,
    chats: ChatOperations,
    agents: AgentOperations,
    *,
    api_key: str,
    limits: Mapping[str, Limit],
    say: Say,
) -> Flask:
    """Return the API of one account."""
    app = Flask("callhouse-sandbox", static_folder=None)
    owners = {"calls": operations, "chats": chats, "agents": agents}
    for owner, routes in read_data("data/routes.yaml").items():
        for method, path, status, name, *takes in routes:
            view = partial(_answer, getattr(owners[owner], name), status, takes)
            app.add_url_rule(path, f"{method} {path}", view, methods=[method])
    # Without the key: a link works for everybody.
    app.add_url_rule(_MEDIA, _MEDIA, partial(_media, operations), methods=["GET"])
    _answer_errors(app)
    limiter, lock, now_ms = RateLimiter(limits), threading.Lock(), agents.workspace.now_ms

    @app.before_request
    def admit() -> None:
        if request.endpoint == _MEDIA:
            return
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {api_key}".encode()):
            raise ApiError(401, "API key is missing or invalid.")
        endpoint = request.endpoint or ""
        with lock:
            name = "list" if "/list-" in endpoint else "other"
            if endpoint == _CREATE:
                name = "create"
                limiter.check("create_errors", endpoint, now_ms())
            limiter.check(name, endpoint, now_ms())
            request.environ["limits"] = limiter.count(name, endpoint, now_ms())

    @app.after_request
    def count(response: Response) -> Response:
        if request.endpoint == _CREATE and 400 <= response.status_code < 500:
            with lock:
                limiter.count("create_errors", _CREATE, now_ms())
        response.headers.update(request.environ.get("limits", {}))
        say(request.method, request.path, response.status_code)
        return response

    return app


def _answer_errors(app: Flask) -> None:
    @app.errorhandler(ApiError)
    def refuse(error: ApiError) -> Response:
        response = _json({"status": "error", "message": str(error)}, error.status)
        response.headers.update(error.headers)
        return response

    @app.errorhandler(HTTPException)
    def explain(error: HTTPException) -> Response:
        return _json({"status": "error", "message": error.name}, error.code or 500)


def _body() -> Any:
    """The JSON body; an absent one is an empty object. Raises ApiError 400."""
    if not request.get_data():
        return {}
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise ApiError(400, INVALID)
    return body


def _answer(operation: Callable[..., Any], status: int, takes: list[str], **path: str) -> Response:
    """Call the operation of a route; `takes` are its arguments."""
    given: dict[str, Callable[[], Any]] = {
        "id": lambda: next(iter(path.values())),
        "body": _body,
        "query": request.args.to_dict,
    }
    value = operation(*(given[name]() for name in takes))
    return Response(status=204) if status == 204 else _json(value, status)


def _media(operations: CallOperations, call_id: str, **_name: str) -> BaseResponse:
    """A file that a call links to, or the range of it that is asked for."""
    query = request.query_string.decode("ascii", "replace")
    content, content_type = operations.media(call_id, request.path, query)
    response = Response(content, content_type=content_type)
    response.set_etag(sha256(content).hexdigest())
    return response.make_conditional(request, accept_ranges=True, complete_length=len(content))


def _json(value: Any, status: int = 200) -> Response:
    return Response(compact(value), status, content_type="application/json; charset=utf-8")


# How often the server checks whether it should stop.
_STOP_SECONDS = 0.02


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Print nothing: the command prints its own line for each request."""


class Sandbox:
    """One Retell account. Use it as a context manager; `url` is the API's base URL.

    `speed` is how many times faster than real time it runs; 0 does not wait. `scenario` applies to
    calls to numbers without one (data/scenarios.yaml). With `signs_all_urls`, every agent's links
    to recordings are signed and expire. The fields of `Mischief` are keyword arguments too.
    `limits` replaces rate limits by name; None removes all. `now_ms` is the clock; after you set
    it, call `wake`.
    """

    def __init__(
        self,
        *,
        api_key: str,
        seed: int = 1,
        speed: float = 0,
        webhook_url: str | None = None,
        scenario: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Mapping[str, Limit] | None = LIMITS,
        concurrency: int = 20,
        signs_all_urls: bool = False,
        now_ms: Callable[[], int] = clock_ms,
        on_request: Callable[[str, str, int], None] = lambda *_: None,
        on_delivery: Callable[[Delivery], None] = lambda _: None,
        **mischief: float,
    ) -> None:
        if scenario is not None and scenario not in BY_NAME:
            raise SettingsError(
                f"there is no scenario {scenario}", hint=f"There are: {', '.join(BY_NAME)}."
            )
        self.api_key = api_key
        account = Account(Random(seed), signs_all_urls=signs_all_urls)
        self._workspace = workspace = Workspace(account, seed, now_ms)
        self._reporter = reporter = Reporter(
            key=api_key,
            webhook_url=webhook_url,
            mischief=Mischief(**mischief),
            workspace=workspace,
            speed=speed,
            say=on_delivery,
        )
        self._operations = CallOperations(
            workspace=workspace,
            reporter=reporter,
            scenario=BY_NAME.get(scenario or ""),
            concurrency=concurrency,
        )
        app = create_app(
            self._operations,
            ChatOperations(workspace=workspace, reporter=reporter),
            AgentOperations(workspace),
            api_key=api_key,
            limits={} if limits is None else {**LIMITS, **limits},
            say=on_request,
        )
        self._server = make_server(host, port, app, threaded=True, request_handler=_Quiet)
        account.media_url = f"{self.url}/media"
        serve = partial(self._server.serve_forever, poll_interval=_STOP_SECONDS)
        self._serving = threading.Thread(target=serve, daemon=True)

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._serving.join()
        self._server.server_close()
        self._reporter.close()

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return f"http://{self._server.host}:{self._server.port}"

    @property
    def webhook_url(self) -> str | None:
        """The account's webhook URL; can be changed while it runs."""
        return self._reporter.webhook_url

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        self._reporter.webhook_url = url

    @property
    def calls(self) -> dict[str, Json]:
        """Every current call object, by call_id."""
        return {stored.id: stored.call for stored in self._workspace.listed()}

    @property
    def chats(self) -> dict[str, Json]:
        """Every current chat object, by chat_id."""
        return {stored.id: stored.call for stored in self._workspace.listed("chat_id")}

    @property
    def agents(self) -> list[str]:
        """The account's agent_ids."""
        return list(self._workspace.agents)

    @property
    def deliveries(self) -> list[Delivery]:
        """Every webhook so far, in the order of the first attempts."""
        return list(self._reporter.log)

    def populate(
        self,
        *,
        calls: int | Sequence[int],
        day_start_ms: int | None = None,
        days: int = 1,
        deliver: bool | Callable[[Story], bool] = False,
        odd: bool = False,
        chats: bool = False,
        backdated: bool = False,
    ) -> int:
        """Add `calls` analysed calls to the account, so many on each day or spread over `days`,
        from `day_start_ms` (UTC midnight) on, by default up to yesterday.

        With `deliver`, which may be a function that chooses, their webhooks are sent now, one after
        the other without waiting; return how many. With `odd` some are late, repeated, out of order
        or missing, and chats, alerts and stray requests are added; with `chats` only chats. With
        `backdated` they are signed with the event's time, for a receiver that tolerates that.
        """
        if isinstance(calls, int):
            calls = [calls * (n + 1) // days - calls * n // days for n in range(days)]
        if day_start_ms is None:
            day_start_ms = (self._workspace.now_ms() // DAY_MS - len(calls)) * DAY_MS
        seed, account, planned = self._workspace.seed, self._workspace.account, 0
        for story in stories(seed, account, day_start_ms, calls, odd=odd, chats=chats):
            if story.entity is not None:
                stored = StoredCall(story.entity, story.created_ms)
                self._workspace.stored[stored.id] = stored
            if story.events and (deliver(story) if callable(deliver) else deliver):
                planned += self._reporter.report_past(story.events, backdated=backdated)
        return planned

    def request_export(self, channel: str) -> None:
        """Request an export of `call` or `chat`, as the dashboard does."""
        self._operations.request_export(channel)

    def settle(self, timeout_seconds: float | None = None) -> None:
        """Wait until every call is over and every delivery is done, retries included. Raises
        CallhouseError after the timeout."""
        self._reporter.lives.settle(timeout_seconds)
        self._reporter.posts.settle(timeout_seconds)

    def wake(self) -> None:
        """Read the clock again after it was set."""
        self._reporter.lives.wake()
        self._reporter.posts.wake()
