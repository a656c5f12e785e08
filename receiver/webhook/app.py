"""HTTP: the routes, the limits of a request's body, and the status of each error.

Stored events are answered without Flask, which is faster. Flask answers everything else: health,
errors, and the few events whose answer has a body.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import gevent
from flask import Flask, Response, jsonify, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, HTTPException, NotFound, RequestEntityTooLarge
from werkzeug.wsgi import get_content_length, get_input_stream

from receiver import clock, config
from receiver.addresses import Bind
from receiver.errors import (
    BodyTooLarge,
    BodyTooSlow,
    BodyUnreadable,
    CallhouseError,
    ForgedSignature,
    MalformedSignature,
    MissingSignature,
    Overloaded,
    StaleSignature,
    StoreBusy,
    StoreUnavailable,
)
from receiver.inbound_rules import INBOUND_EVENTS
from receiver.jobs.schedule import intervals
from receiver.store import AnyStore, Received, is_known, open_store, receive
from receiver.store.outbox import Forward
from receiver.webhook.health import (
    Counters,
    DatabaseWatch,
    count_inbound_failure,
    health,
    log,
    note,
    prometheus,
)
from receiver.webhook.inbound import Decision, InboundRules, inbound_request
from receiver.webhook.signature import (
    BODY_HEADER,
    OUTCOME_HEADER,
    authenticate,
    is_probe,
    parse_header,
    probe_answer,
)
from schema.events import parse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

RETRY_AFTER_SECONDS = 5
HEALTH_PATHS = ("/healthz", "/metrics")
WEBHOOK_PATHS = ("/webhook", "/webhook/")
# Keys of the WSGI environment for Flask's answer to a webhook: JSON or an error; whether the body
# was read, and signed.
_RESULT, _IS_READ, _IS_SIGNED = "callhouse.result", "callhouse.is_read", "callhouse.is_signed"
_SIGNATURE = "HTTP_X_RETELL_SIGNATURE"

_COUNTED: dict[type[CallhouseError], str] = {
    MissingSignature: "missing",
    MalformedSignature: "malformed",
    ForgedSignature: "forged",
    StaleSignature: "stale",
    BodyTooLarge: "too_large",
    BodyTooSlow: "too_slow",
    BodyUnreadable: "unreadable",
    Overloaded: "overloaded",
    StoreBusy: "busy",
    StoreUnavailable: "unavailable",
}


def create_app(
    settings: config.Settings | None = None,
    *,
    now_ms: Callable[[], int] = clock.now_ms,
    health_cache_seconds: float = 1.0,
) -> Flask:
    """Create the receiver. The database must have been migrated. Raises SettingsError without a
    key."""
    settings = settings or config.load()
    keys = settings.require_keys()
    store = open_store(settings.database, connections=settings.connections)
    counters = Counters(settings.counters_path)
    watch = DatabaseWatch(settings.database, counters.path, seconds=health_cache_seconds)
    app = Flask("callhouse")
    app.before_request(partial(_separate_health, settings.health_bind))
    app.after_request(_close_unless_signed)
    app.extensions["callhouse"] = {"store": store, "counters": counters}
    app.post("/webhook")(_answer_webhook)
    app.post("/webhook/")(_answer_webhook)
    # Flask documents this attribute as the place of a WSGI middleware; to mypy it is a method.
    app.wsgi_app = _Webhook(  # type: ignore[method-assign]
        app.wsgi_app, settings, keys, store, counters, now_ms
    ).answer
    _answer_health(app, watch, counters, intervals(settings), now_ms)
    _answer_errors(app, counters, now_ms, settings.max_body_bytes)
    return app


def _answer_health(
    app: Flask,
    watch: DatabaseWatch,
    counters: Counters,
    intervals_ms: Mapping[str, int],
    now_ms: Callable[[], int],
) -> None:
    @app.get("/healthz")
    def healthz() -> tuple[Response, int]:
        state = health(watch.check(), counters, intervals_ms=intervals_ms, now_ms=now_ms())
        return jsonify(state), 503 if state["problems"] else 200

    @app.get("/metrics")
    def metrics() -> Response:
        text = prometheus(watch.check(), counters, intervals_ms=intervals_ms, now_ms=now_ms())
        return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")


class _Webhook:
    """Answers Retell's events; `flask` answers other requests."""

    def __init__(
        self,
        flask: "WSGIApplication",
        settings: config.Settings,
        keys: tuple[str, ...],
        store: AnyStore,
        counters: Counters,
        now_ms: Callable[[], int],
    ) -> None:
        self._flask, self._settings, self._keys = flask, settings, keys
        self._store, self._counters, self._now_ms = store, counters, now_ms
        self._bodies = Bodies(max_body_bytes=settings.max_body_bytes)
        self._inbound = InboundRules(settings, store)
        self._accounts = settings.account_keys

    def answer(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """The WSGI application."""
        health = self._settings.health_bind
        is_event = environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] in WEBHOOK_PATHS
        if not is_event or (health and environ["SERVER_PORT"] == str(health.port)):
            return self._flask(environ, start_response)
        max_bytes = self._settings.max_body_bytes
        try:
            # Before the body is read.
            if (get_content_length(environ) or 0) > max_bytes:
                raise _too_large(max_bytes)
            parse_header(environ.get(_SIGNATURE))
            # One byte more than allowed: werkzeug truncates a body without a length at this limit.
            stream = get_input_stream(environ, max_content_length=max_bytes + 1)
            with self._bodies.read(stream, is_timed="gunicorn.socket" in environ) as body:
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
                environ[_IS_READ] = True
                environ[_RESULT] = self._receive(body, environ)
        except Exception as error:
            environ[_RESULT] = error
        if environ[_RESULT] is not None:
            return self._flask(environ, start_response)
        start_response("204 NO CONTENT", [])
        return []

    def _receive(self, body: bytes, environ: "WSGIEnvironment") -> dict[str, Any] | None:
        """Verify and store a body; return the JSON of the answer, or None if it is empty."""
        began, received_at = time.perf_counter(), self._now_ms()
        received = self._verify(body, environ.get(_SIGNATURE), received_at)
        environ[_IS_SIGNED] = True
        event = received.event
        if is_probe(event):
            log(now_ms=received_at, outcome="probe", bytes=len(body))
            return probe_answer(event, received_at_ms=received_at)
        outcome = self._store.add(received)
        note(self._counters, outcome.value, now_ms=received_at)
        is_inbound = event.event in INBOUND_EVENTS
        decision = self._decide(received) if is_inbound else Decision()
        log(
            now_ms=received_at,
            outcome=outcome.value,
            event=event.event,
            entity_id=event.entity_id,
            level=received.level,
            bytes=len(body),
            ms=round((time.perf_counter() - began) * 1000, 1),
            rule=decision.rule,
            error=decision.problem,
        )
        return {str(event.event): decision.answer} if is_inbound else None

    def _decide(self, received: Received) -> Decision:
        """The answer to an inbound call or chat, after its event is stored."""
        request = inbound_request(received.event, self._accounts.get(str(received.key_id), ""))
        decision = self._inbound.decide(request, now_ms=received.received_at)
        if decision.problem:
            count_inbound_failure(self._counters, now_ms=received.received_at)
        return decision

    def _verify(self, body: bytes, signature: str | None, received_at: int) -> Received:
        """Verify and parse a body. Raises SignatureError."""
        try:
            signed = authenticate(
                body,
                signature,
                keys=self._keys,
                now_ms=received_at,
                tolerance_ms=self._settings.signature_tolerance_ms,
            )
        except ForgedSignature as error:
            error.body_sha256 = hashlib.sha256(body).hexdigest()
            raise
        except StaleSignature as error:
            error.is_replay = _is_replay(body, self._store)
            raise
        received = receive(
            body,
            source="webhook",
            observed_at=signed.at_ms,
            received_at=received_at,
            key_id=signed.key_id,
        )
        if forward := self._settings.file.forward:
            targets = tuple(t.name for t in forward if t.wants(received.event.event))
            received = replace(received, forward=Forward(targets, signature))
        return received


def _answer_webhook() -> Response:
    """Answer with the JSON of an event, or raise its error for the error handlers."""
    result = request.environ.pop(_RESULT)
    try:
        if isinstance(result, Exception):
            raise result
        return jsonify(result)
    finally:
        # The traceback refers to this frame: the cycle would keep the body in memory.
        del result


def _separate_health(health_bind: Bind | None) -> None:
    """With a separate address, only health is answered there. Raises NotFound."""
    if health_bind is not None:
        # gunicorn sets it from the socket, not from a header.
        is_there = request.environ["SERVER_PORT"] == str(health_bind.port)
        if is_there != (request.path in HEALTH_PATHS):
            raise NotFound


def _is_replay(body: bytes, store: AnyStore) -> bool:
    """Whether an authentic but stale body is a repetition: stored already, or a test event.
    Otherwise a clock is wrong."""
    event = parse(body)
    try:
        return is_probe(event) or store.read(partial(is_known, event=event))
    except StoreUnavailable:
        return False


def _answer_errors(
    app: Flask, counters: Counters, now_ms: Callable[[], int], max_body_bytes: int
) -> None:
    """Answer errors as JSON with a hint, without content of the request."""

    @app.errorhandler(CallhouseError)
    def refuse(error: CallhouseError) -> tuple[Response, int, dict[str, str]]:
        outcome = next(name for cls, name in _COUNTED.items() if isinstance(error, cls))
        is_replay = isinstance(error, StaleSignature) and error.is_replay
        note(counters, "duplicate" if is_replay else outcome, now_ms=now_ms())
        log(now_ms=now_ms(), outcome=outcome, error=str(error))
        headers = {OUTCOME_HEADER: outcome}
        if error.retry:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        if isinstance(error, ForgedSignature) and error.body_sha256:
            headers[BODY_HEADER] = error.body_sha256
        return jsonify({"error": str(error), "hint": error.hint}), error.status, headers

    @app.errorhandler(RequestEntityTooLarge)
    def refuse_length(_: RequestEntityTooLarge) -> tuple[Response, int, dict[str, str]]:
        return refuse(_too_large(max_body_bytes))

    @app.errorhandler(ClientDisconnected)
    def refuse_rest(_: ClientDisconnected) -> tuple[Response, int, dict[str, str]]:
        return refuse(BodyUnreadable("the body could not be read to its end"))

    @app.errorhandler(HTTPException)
    def explain(error: HTTPException) -> tuple[Response, int, dict[str, str]]:
        hint = "Events go to POST /webhook; see also /healthz and /metrics."
        # A 405 has the header Allow.
        headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
        return jsonify({"error": error.name, "hint": hint}), error.code or 500, headers

    @app.errorhandler(Exception)
    def fail(error: Exception) -> tuple[Response, int]:
        # Log only the class: the message may contain content of the request.
        log(now_ms=now_ms(), outcome="failed", error=type(error).__name__)
        return jsonify({"error": "internal error", "hint": "See the receiver's log."}), 500


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is longer than {max_bytes} bytes")


def _close_unless_signed(response: Response) -> Response:
    """Close the connection unless the request was a signed event.

    A worker serves open connections before it accepts new ones: unsigned requests on a hundred
    connections would delay a new sender for seconds. And the rest of an unread body must not be
    read as the next request.
    """
    # Set by gunicorn.conf.py: gunicorn ignores a Connection header of ours.
    force_close = getattr(request.environ["wsgi.input"], "force_close", None)
    if force_close and _IS_SIGNED not in request.environ:
        force_close()
        has_body = request.content_length or "Transfer-Encoding" in request.headers
        if has_body and _IS_READ not in request.environ:
            response.call_on_close(partial(drain, request.environ["wsgi.input"], is_timed=True))
    return response


# Retell times out after 10 s; the largest body may take longer on a slow connection.
BODY_SECONDS = 30.0
# The minimum rate: a chunk of at most 256 KiB in this time.
PIECE_SECONDS = 5.0
_FIRST_PIECE, _LARGEST_PIECE = 16 * 1024, 256 * 1024
# The maximum size of all bodies in memory, per worker; a quarter is reserved for small bodies.
BUDGET_BYTES = 64 * 1024 * 1024
SMALL_BYTES = 1024 * 1024
# The part of a rejected body that is read after the response, so that the sender can read the
# response.
_DRAIN_BYTES, _DRAIN_SECONDS = 256 * 1024, 1.0


class Stream(Protocol):
    """A request's body."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; empty at the end."""


class Bodies:
    """The bodies that one worker has in memory, within a budget."""

    def __init__(self, *, max_body_bytes: int, budget_bytes: int = BUDGET_BYTES) -> None:
        # One body of the maximum length always fits.
        self._budget = max(budget_bytes, 4 * max_body_bytes)
        self._used = 0
        self._lock = threading.Lock()

    @contextmanager
    def read(self, stream: Stream, *, is_timed: bool) -> Iterator[bytes]:
        """Read a body, and count its bytes until the block ends.

        `is_timed`: gevent runs the server, so reads can time out. Raises
        BodyTooSlow, Overloaded, BodyUnreadable, and werkzeug's errors of the stream.
        """
        pieces: list[bytes] = []
        size = 0
        try:
            with _deadline(BODY_SECONDS, is_timed=is_timed):
                while piece := _piece(stream, size, is_timed=is_timed):
                    is_small = size + len(piece) <= SMALL_BYTES
                    with self._lock:
                        limit = self._budget if is_small else self._budget * 3 // 4
                        if self._used + len(piece) > limit:
                            raise Overloaded("too many bodies are being received at once")
                        self._used += len(piece)
                    size += len(piece)
                    pieces.append(piece)
            body = b"".join(pieces)
            pieces.clear()
            yield body
        finally:
            with self._lock:
                self._used -= size


def drain(stream: Stream, *, is_timed: bool) -> None:
    """Read the rest of a rejected body, for a limited time.

    Closing a socket with unread bytes resets the connection, and the response is lost.
    """
    left = _DRAIN_BYTES
    with suppress(Exception), _deadline(_DRAIN_SECONDS, is_timed=is_timed):
        while left > 0 and (piece := stream.read(_FIRST_PIECE)):
            left -= len(piece)


def _piece(stream: Stream, so_far: int, *, is_timed: bool) -> bytes:
    # The server's read-ahead is not counted, so chunks grow with the bytes counted.
    wanted = min(max(so_far, _FIRST_PIECE), _LARGEST_PIECE)
    with _deadline(PIECE_SECONDS, is_timed=is_timed):
        try:
            return stream.read(wanted)
        except (OSError, ValueError, ParseException) as error:
            # Malformed chunks, or a closed connection.
            raise BodyUnreadable("the body could not be read to its end") from error


def _deadline(seconds: float, *, is_timed: bool) -> AbstractContextManager[object]:
    if not is_timed:
        return nullcontext()
    timeout: AbstractContextManager[object] = gevent.Timeout(
        seconds, BodyTooSlow("the body did not arrive in time")
    )
    return timeout
