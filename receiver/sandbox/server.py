"""A local Retell: its API on a port of this machine, and its webhooks.

with Sandbox(api_key="key_...", webhook_url="http://127.0.0.1:8000/webhook") as sandbox:
    client = retell.Retell(api_key="key_...", base_url=sandbox.url)
"""

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any, Self, Unpack

from werkzeug.serving import WSGIRequestHandler, make_server

from receiver.errors import SettingsError
from receiver.sandbox.app import LIMITS, Limit, create_app
from receiver.sandbox.companies import Account
from receiver.sandbox.days import DAY_MS, stories
from receiver.sandbox.deliveries import Deliverer, Delivery, Mischief, Rates, Reporter, Schedule
from receiver.sandbox.operations import AgentOperations, Operations
from receiver.sandbox.plans import BY_NAME
from receiver.sandbox.workspace import Held, Workspace

_LANES = 8
# How soon the server notices that it shall stop.
_STOP_SECONDS = 0.02


def clock_ms() -> int:
    """The time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: the sandbox has its own line for each request."""


class Sandbox:
    """One Retell account. Use it as a context manager; `url` is the API's base URL.

    `speed` is how many times faster than life it goes; with 0 nothing waits at all. `scenario`
    names how every call goes that no number decides (see `scenarios`). The names in `Mischief` are
    keyword arguments too. `limits` replaces rate limits by name; None switches them all off.
    `now_ms` is the clock; after setting one by hand, call `wake`.
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
        now_ms: Callable[[], int] = clock_ms,
        on_request: Callable[[str, str, int], None] = lambda *_: None,
        on_delivery: Callable[[Delivery], None] = lambda _: None,
        **mischief: Unpack[Rates],
    ) -> None:
        if scenario is not None and scenario not in BY_NAME:
            raise SettingsError(
                f"there is no scenario {scenario}", hint=f"There are: {', '.join(BY_NAME)}."
            )
        self.api_key, self._seed, self._now_ms = api_key, seed, now_ms
        self._account = account = Account(Random(seed))
        self._workspace = Workspace(account)
        self._lives = Schedule(speed=speed, now_ms=now_ms, lanes=1)
        self._posts = Schedule(speed=speed, now_ms=now_ms, lanes=_LANES)
        self._deliverer = Deliverer(
            key=api_key, schedule=self._posts, now_ms=now_ms, say=on_delivery
        )
        self._reporter = Reporter(
            seed=seed,
            webhook_url=webhook_url,
            mischief=Mischief(**mischief),
            workspace=self._workspace,
            lives=self._lives,
            posts=self._posts,
            deliverer=self._deliverer,
        )
        operations = Operations(
            seed=seed,
            account=account,
            workspace=self._workspace,
            reporter=self._reporter,
            scenario=BY_NAME[scenario] if scenario else None,
            concurrency=concurrency,
            now_ms=now_ms,
        )
        app = create_app(
            operations,
            AgentOperations(self._workspace, now_ms),
            api_key=api_key,
            limits={} if limits is None else {**LIMITS, **limits},
            now_ms=now_ms,
            say=on_request,
        )
        self._server = make_server(host, port, app, threaded=True, request_handler=_Quiet)
        serve = partial(self._server.serve_forever, poll_interval=_STOP_SECONDS)
        self._serving = threading.Thread(target=serve, daemon=True)

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._serving.join()
        self._server.server_close()
        self._lives.close()
        self._posts.close()
        self._deliverer.close()

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return f"http://{self._server.host}:{self._server.port}"

    @property
    def webhook_url(self) -> str | None:
        """The account's webhook URL; may be set while it runs."""
        return self._reporter.webhook_url

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        self._reporter.webhook_url = url

    @property
    def calls(self) -> dict[str, dict[str, Any]]:
        """Every call object as it is now, by call_id."""
        return self._workspace.calls()

    @property
    def agents(self) -> list[str]:
        """The account's agent_ids."""
        return list(self._workspace.agents)

    @property
    def deliveries(self) -> list[Delivery]:
        """Every webhook so far, in the order in which they were first sent."""
        return list(self._deliverer.log)

    def populate(
        self,
        *,
        calls: int,
        day_start_ms: int | None = None,
        days: int = 1,
        deliver: bool = False,
        odd: bool = False,
        backdated: bool = False,
    ) -> int:
        """Give the account a past: `calls` calls, over and analysed, spread over `days` from
        `day_start_ms` on (UTC midnight), by default up to yesterday.

        With `deliver` their webhooks go out now, one after the other and without waiting; return
        how many. With `odd` some come late, twice, in the wrong order or never, and there are
        chats, alerts and stray requests besides. With `backdated` they are signed when they
        happened, for a receiver that tolerates that.
        """
        if day_start_ms is None:
            now_ms = self._now_ms()
            day_start_ms = now_ms - now_ms % DAY_MS - days * DAY_MS
        past = stories(
            self._seed, self._account, day_start_ms=day_start_ms, days=days, calls=calls, odd=odd
        )
        planned = 0
        for story in past:
            if story.call is not None:
                self._workspace.hold(Held(story.call, story.filed_ms))
            if deliver and story.events:
                planned += self._reporter.report_past(story.events, backdated=backdated)
        return planned

    def settle(self, timeout_seconds: float | None = None) -> None:
        """Wait until every call has lived through its life and every delivery is done, with its
        retries. Raises CallhouseError when that takes longer than allowed."""
        self._lives.settle(timeout_seconds)
        self._posts.settle(timeout_seconds)

    def wake(self) -> None:
        """Look at the clock again, after it was set by hand."""
        self._lives.wake()
        self._posts.wake()
