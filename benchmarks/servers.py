"""The servers that callhouse is compared with, with the same configuration and bodies."""

import hashlib
import hmac
import json
import os

import sqlite_utils
from flask import Flask, request

from benchmarks import KEY


def _is_signed(body: bytes) -> bool:
    timestamp, digest = request.headers["X-Retell-Signature"].removeprefix("v=").split(",d=")
    mac = hmac.new(KEY.encode(), body + timestamp.encode(), hashlib.sha256)
    return hmac.compare_digest(mac.hexdigest(), digest)


def hmac_only() -> Flask:
    """An endpoint that only reads the body and checks its HMAC: the upper limit."""
    app = Flask("hmac_only")

    @app.post("/webhook")
    def webhook() -> tuple[str, int]:
        return ("", 204) if _is_signed(request.get_data(cache=False)) else ("", 401)

    return app


def ten_minutes() -> Flask:
    """A version written in ten minutes: each event inserts the unchanged call into one table."""
    app = Flask("ten_minutes")
    database = sqlite_utils.Database(
        os.environ["CALLHOUSE_DATABASE_URL"].removeprefix("sqlite:///")
    )

    @app.post("/webhook")
    def webhook() -> tuple[str, int]:
        body = request.get_data(cache=False)
        if not _is_signed(body):
            return "", 401
        call = json.loads(body)["call"]
        database["calls"].upsert(call, pk="call_id", alter=True)
        return "", 204

    return app
