"""Datasette as callhouse serves it, in process, and a visitor."""

import asyncio
from contextlib import contextmanager

from receiver.browse.server import serving


def session_of_admin(served):
    """A login cookie of admin, as the login page sets it."""
    return served.callhouse_door.sessions.start(served.callhouse_access.admin_actor)


@contextmanager
def visiting(settings):
    """Yield get(path, actor=True): what Datasette answers to admin, or to nobody."""
    served = serving(settings, password_hash="a hash")

    def get(path, *, actor=True):
        cookies = {"ds_actor": session_of_admin(served)} if actor else {}
        return asyncio.run(served.client.get(path, cookies=cookies))

    try:
        yield get
    finally:
        for database in served.databases.values():
            database.close()
