"""The real receiver on a port of its own, in a thread."""

import threading
from contextlib import contextmanager

from werkzeug.serving import WSGIRequestHandler, make_server

from receiver.webhook.app import create_app


class _Quiet(WSGIRequestHandler):
    def log(self, *args):
        pass


@contextmanager
def serving(settings, **options):
    """Serve `settings`' receiver; yield the URL of its webhook."""
    app = create_app(settings, **options)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    # Requests end before the test does, and with them their connections.
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}/webhook"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        app.extensions["callhouse"]["store"].close()
        app.extensions["callhouse"]["counters"].close()
