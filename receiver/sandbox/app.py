"""The sandbox's HTTP: Retell's routes, and what its errors look like. Knows Flask."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from receiver.errors import Refusal
from receiver.sandbox.agent_operations import AgentOperations
from receiver.sandbox.limits import Limit, RateLimiter
from receiver.sandbox.operations import Operations
from receiver.sandbox.orders import INVALID
from receiver.sandbox.wire import compact

_CREATE = "create_phone_call"
_LISTS = ("list_calls", "list_agents", "list_agent_versions")
# Said about each answer: method, path, status.
Say = Callable[[str, str, int], None]


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
    _call_routes(app, operations)
    _agent_routes(app, agents)
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
    return "list" if endpoint in _LISTS else "other"


def _call_routes(app: Flask, operations: Operations) -> None:
    @app.post("/v2/create-phone-call")
    def create_phone_call() -> Response:
        return _json(operations.create_phone_call(_body()), 201)

    @app.post("/v2/create-web-call")
    def create_web_call() -> Response:
        return _json(operations.create_web_call(_body()), 201)

    @app.post("/v3/create-web-call")
    def join_web_call() -> Response:
        return _json(operations.join_web_call(_body()), 201)

    @app.get("/v2/get-call/<call_id>")
    def get_call(call_id: str) -> Response:
        return _json(operations.get_call(call_id))

    @app.post("/v3/list-calls")
    def list_calls() -> Response:
        return _json(operations.list_calls(_body()))

    @app.patch("/v2/update-call/<call_id>")
    def update_call(call_id: str) -> Response:
        return _json(operations.update_call(call_id, _body()))

    @app.delete("/v2/delete-call/<call_id>")
    def delete_call(call_id: str) -> Response:
        operations.delete_call(call_id)
        return Response(status=204)

    @app.post("/v2/stop-call/<call_id>")
    def stop_call(call_id: str) -> Response:
        operations.stop_call(call_id)
        return Response(status=204)

    @app.put("/rerun-call-analysis/<call_id>")
    def rerun_analysis(call_id: str) -> Response:
        return _json(operations.rerun_analysis(call_id))


def _agent_routes(app: Flask, agents: AgentOperations) -> None:
    @app.post("/v2/list-agents")
    def list_agents() -> Response:
        return _json(agents.list_agents(request.args.to_dict(), _body()))

    @app.get("/list-agent-versions/<agent_id>")
    def list_agent_versions(agent_id: str) -> Response:
        return _json(agents.list_versions(agent_id, request.args.to_dict()))

    @app.get("/get-agent/<agent_id>")
    def get_agent(agent_id: str) -> Response:
        return _json(agents.get_agent(agent_id, request.args.get("version")))

    @app.patch("/update-agent/<agent_id>")
    def update_agent(agent_id: str) -> Response:
        return _json(agents.update_agent(agent_id, request.args.get("version"), _body()))


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


def _json(value: Any, status: int = 200) -> Response:
    return Response(compact(value), status, content_type="application/json; charset=utf-8")
