"""An account in the sandbox behind a proxy; sync and coverage as the commands run them."""

import json
from contextlib import ExitStack, contextmanager
from datetime import date
from zoneinfo import ZoneInfo

import httpx

from receiver.retell import sync as syncing
from receiver.retell.client import Retell
from receiver.retell.coverage import compare
from receiver.retell.fetching import Fetcher
from receiver.retell.listing import Listing, day_of
from receiver.sandbox.server import Sandbox
from receiver.store import open_store, receive
from receiver.store.engine import register_keys
from receiver.webhook.signature import key_id
from tests.support.meddling import Meddler
from tests.support.webhooks import KEY

DAY_MS = 86_400_000
# Midnight UTC of the fourth day before the clock's.
PAST_MS = 1_778_284_800_000
NOW_MS = PAST_MS + 4 * DAY_MS + DAY_MS // 2
FIRST = date(2026, 5, 9)


class Account:
    """`now_ms` is the clock of both sides."""

    def __init__(self, database, *, seed=1, key=KEY, **options) -> None:
        self.database = database
        self.key = key
        # The key by whose id callhouse knows the account; the sandbox's key does not change.
        self.known_as = key
        self.name = "default" if key == KEY else key
        self.now_ms = NOW_MS
        self.slept: list[float] = []
        self._stack = ExitStack()
        options = {"speed": 0, "limits": None, "now_ms": lambda: self.now_ms} | options
        self.box = self._stack.enter_context(Sandbox(api_key=key, seed=seed, **options))
        self.between = self._stack.enter_context(Meddler(self.box.url))
        self.store = open_store(database)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.store.close()
        self._stack.close()

    def sleep(self, seconds) -> None:
        """Advance the clock without waiting."""
        self.slept.append(seconds)
        self.now_ms += round(seconds * 1000)

    def populate(self, calls, *, days=4, day_start_ms=PAST_MS, **options):
        return self.box.populate(calls=calls, days=days, day_start_ms=day_start_ms, **options)

    def place(self) -> str:
        """Place a call; return its id."""
        answer = httpx.post(
            f"{self.box.url}/v2/create-phone-call",
            json={"from_number": "+14155550100", "to_number": "+14155550123"},
            headers={"Authorization": f"Bearer {self.key}"},
        )
        assert answer.status_code == 201, answer.text
        return answer.json()["call_id"]

    def delete(self, call_id) -> None:
        assert self.request("DELETE", f"/v2/delete-call/{call_id}").status_code == 204

    def request(self, method, path, **options) -> httpx.Response:
        """Send a request to the sandbox itself."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.request(method, f"{self.box.url}{path}", headers=headers, **options)

    def tell(self, call, *, event="call_analyzed", key=None) -> None:
        """Store a call object as its webhook would."""
        self.tell_body({"event": event, "call": call}, key=key)

    def tell_body(self, body, *, key=None) -> None:
        """Store a body as its webhook would."""
        self.store.add(
            receive(
                json.dumps(body).encode(),
                source="webhook",
                observed_at=self.now_ms,
                received_at=self.now_ms,
                key_id=key_id(key or self.key),
            )
        )

    def sync(self, since=None, until=None, *, agent=None, timezone="UTC", stop=None):
        """Run a sync; `stop` is called before each page and may raise."""
        with self._fetching(agent, timezone) as (listing, fetcher):
            today = day_of(self.now_ms, listing.zone)
            days = syncing.plan(listing, self.database, since, until, today, account=self.name)
            return syncing.sync(
                self.store,
                listing,
                fetcher,
                days,
                now_ms=lambda: self.now_ms,
                progress=stop or (lambda _: None),
            )

    def coverage(self, since=None, until=None, *, agent=None, timezone="UTC", fix=False):
        """Compare; return the report before, and after a fix."""
        with self._fetching(agent, timezone) as (listing, fetcher):
            today = day_of(self.now_ms, listing.zone)
            begin = since or listing.first_day() or today
            windows = listing.windows(begin, until, today, from_start=since is None)
            return compare(
                self.store,
                self.database,
                listing,
                fetcher,
                windows,
                fix=fix,
                now_ms=lambda: self.now_ms,
                progress=lambda _: None,
            )

    @contextmanager
    def _fetching(self, agent, timezone):
        with Retell(
            self.between.url, self.key, sleep=self.sleep, now_ms=lambda: self.now_ms
        ) as retell:
            retell.key_id = key_id(self.known_as)
            register_keys(self.store, {retell.key_id: self.name, key_id(self.key): self.name})
            listing = Listing(retell, ZoneInfo(timezone), agent)
            yield listing, Fetcher(self.store, self.database, retell, account=self.name)


def stored(db) -> set[str]:
    """The ids of the stored calls."""
    return {row["call_id"] for row in db.execute("SELECT call_id FROM calls")}


def started(account) -> list[dict]:
    """The calls in the sandbox that ever began."""
    return [call for call in account.box.calls.values() if "start_timestamp" in call]


def figures(counts) -> dict[str, int]:
    """The counts that are not 0."""
    names = ("new", "changed", "unchanged", "gone", "failed")
    return {name: n for name in names if (n := getattr(counts, name))}
