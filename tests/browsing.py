"""Datasette as callhouse serves it, in process, and a visitor."""

import asyncio
from contextlib import contextmanager

from receiver.browse.server import serving


@contextmanager
def visiting(settings):
    """Yield get(path, actor=True): what Datasette answers to admin, or to nobody."""
    served = serving(settings, password_hash="a hash")

    def get(path, *, actor=True):
        cookies = {"ds_actor": served.sign({"a": {"id": "admin"}}, "actor")} if actor else {}
        return asyncio.run(served.client.get(path, cookies=cookies))

    try:
        yield get
    finally:
        for database in served.databases.values():
            database.close()
