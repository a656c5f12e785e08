"""How gunicorn runs the receiver: `gunicorn -c gunicorn.conf.py`, or `callhouse serve`."""

# Underscored, because gunicorn takes every other name for a setting.
import logging as _logging
import os as _os
import resource as _resource
import signal as _signal
import subprocess as _subprocess
import sys as _sys
import threading as _threading
from pathlib import Path as _Path
from typing import Any as _Any

import gevent as _gevent
from gunicorn.workers.base import Worker as _Worker

from receiver.config import load as _load
from receiver.errors import CallhouseError as _CallhouseError
from receiver.errors import SettingsError as _SettingsError
from receiver.store import keep_rolled_up as _keep_rolled_up
from receiver.store import migrate as _migrate
from receiver.webhook.health import ShortMessages as _ShortMessages

# Only their owner can read the files that the receiver makes.
_os.umask(0o077)

_settings = _load()

wsgi_app = "receiver.webhook.app:create_app()"
bind = [str(each) for each in (_settings.bind, _settings.health_bind) if each]
workers = _settings.workers
# One event loop per process: silent and slow sockets cost a greenlet, not a thread.
worker_class = "gevent"
# Sockets of one worker, and the files that it needs beside them.
_CONNECTIONS, _OTHER_FILES = 4096, 128
_files, _most_files = _resource.getrlimit(_resource.RLIMIT_NOFILE)
_files = max(_files, _CONNECTIONS + _OTHER_FILES)
if _most_files != _resource.RLIM_INFINITY:
    _files = min(_files, _most_files)
_resource.setrlimit(_resource.RLIMIT_NOFILE, (_files, _most_files))
worker_connections = max(min(_files - _OTHER_FILES, _CONNECTIONS), 64)
# No preloading: the workers' connections must not be inherited over a fork.
preload_app = False
control_socket_disable = True
# A worker that is stuck this long is killed; the store stops waiting for a lock long before.
timeout = 30
# Requests accepted before SIGTERM are answered.
graceful_timeout = 15
# An idle connection is closed after so many seconds, and one whose header is not complete.
keepalive = 15
# A client must accept its answer in this time, which is longer than any wait for a request.
_ANSWER_SECONDS = 30
errorlog = "-"
loglevel = "warning"


def on_starting(_server: object) -> None:
    """Refuse to start without a key or on a broken schema; migrate once, before workers fork."""
    _logging.getLogger("gunicorn.error").addFilter(_ShortMessages())
    try:
        _settings.require_keys()
        if not isinstance(_settings.database, _Path):
            _migrate_server()
            return
        _migrate(
            _settings.database,
            timezone=_settings.timezone,
            account_keys=_settings.account_keys,
        )
    except _CallhouseError as error:
        # Two sentences instead of a traceback: what is wrong, and what to do.
        print(f"Error: {error}\n  {error.hint}", file=_sys.stderr)
        raise SystemExit(2 if isinstance(error, _SettingsError) else 1) from None


def post_fork(_server: object, _worker: object) -> None:
    """Make SIGTERM end a worker that is still starting: until it has its own handlers, those of the
    master would ignore the signal.
    """
    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT):
        _signal.signal(number, lambda *_: _os._exit(0))


def pre_request(_worker: object, req: _Any) -> None:
    """Let the app close the connection after an unread body, let other requests run first, and
    disconnect a client that does not accept its answer.

    A client on this machine that sends its next request at once would never let the worker read
    from any other socket: gevent waits only for a socket that has nothing to read.
    """
    req.body.force_close = req.force_close
    req.unreader.sock.settimeout(_ANSWER_SECONDS)
    _gevent.sleep(0)


def _migrate_server() -> None:
    """In a process of its own: psycopg learns how to wait when it is imported, and may be imported
    only after gevent has changed that, in the workers."""
    done = _subprocess.run([_sys.executable, "-m", "receiver", "migrate"], stdout=-3)
    if done.returncode:
        raise SystemExit(done.returncode)


def post_worker_init(worker: _Worker) -> None:
    """Roll up a server's database in a worker, with its connections for events. `callhouse browse`
    rolls up a file."""
    if not isinstance(_settings.database, _Path):
        store = worker.wsgi.extensions["callhouse"]["store"]
        work = (store, _settings.timezone, _threading.Event())
        _threading.Thread(target=_keep_rolled_up, args=work, daemon=True).start()


def worker_int(_worker: object) -> None:
    """End at once after Ctrl-C or SIGQUIT, which gevent would report with a traceback each."""
    # Running requests get a moment; an unanswered event was not acknowledged.
    _gevent.sleep(0.1)
    _os._exit(0)


def on_exit(_server: object) -> None:
    """Print that the receiver has ended."""
    print("Stopped.", file=_sys.stderr)
