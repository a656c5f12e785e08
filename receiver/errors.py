"""Every error callhouse raises on purpose, in one tree.

CallhouseError
├── SettingsError            an environment variable or argument is unusable
│   ├── UnusableCall         a call that Retell would refuse, or read otherwise than meant
│   ├── NoCluster            the database is none that tables can be distributed over
│   ├── DatabaseRefused      a database on a server cannot be used as its URL says
│   ├── ForeignDatabase      the database is another program's, or the file is none
│   └── CopyWithoutBodies    the file is a copy that has no raw bodies
├── SignatureError           the request is not Retell's; nothing of it is stored
│   ├── MissingSignature
│   ├── MalformedSignature
│   ├── ForgedSignature      no accepted key makes this digest
│   └── StaleSignature       authentic, but its time is outside the tolerance
├── BodyTooLarge             over CALLHOUSE_MAX_BODY_BYTES
├── BodyTooSlow              the body did not arrive in time
├── BodyUnreadable           the body ended early, or its chunks are malformed
├── Overloaded               the worker has no memory left for another body now
├── StoreUnavailable         the event could not be stored now; a retry can help
│   ├── StoreBusy            another process held the write lock too long
│   │   └── LogDeleted       another process has a write-ahead log that was deleted
│   ├── StoreReplaced        the database file was moved, deleted or replaced
│   ├── DatabaseAway         a database on a server could not be used
│   ├── DatabaseUnreadable   a database file could not be read
│   └── SchemaMismatch       the file's schema is not this version's
├── FileUnusable             a file, or what the command prints to, cannot be read or written
├── NotStored                nothing in the warehouse has this id
├── ExportFailed             an export could not be written whole; nothing of it was kept
├── CopyStopped              a copy into another database could not go on
├── NotAnEvent               a file to send is neither a webhook body nor a call or chat object
├── QueryNotUnderstood       words to search for cannot be read as a query
├── PlacementUnknown         a call may have been placed, or not
├── PlacedButNotStored       a call was placed, and could not be stored
├── ListStopped              a list of calls cannot go on now
├── RetellError              Retell's API did not do what was asked; nothing else went wrong
│   ├── BadRequest           400
│   ├── KeyRefused           401, 403
│   ├── PaymentRequired      402
│   ├── NotAtRetell          404
│   ├── UnusableReference    422
│   ├── RateLimited          429
│   ├── RetellFailed         5xx
│   ├── RetellUnreachable    no connection: nothing was sent
│   ├── RetellSilent         sent, and no answer came
│   └── UnexpectedAnswer     an answer that Retell does not document
├── Refusal                  the sandbox refuses a request, as Retell does
└── DemoFailed               a process of the demo did not come up, or an event was not stored

Each carries `status` (the HTTP answer), `hint` (what to do next) and `retry` (whether sending the
same again can help). Messages never contain bodies, phone numbers or keys. A RetellError says in
`answered` what Retell answered, and in `wait_seconds` when it wants to be asked again.
"""

from collections.abc import Mapping
from types import MappingProxyType


class CallhouseError(Exception):
    """Base of every error callhouse raises on purpose."""

    status = 500
    retry = False
    hint = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class SettingsError(CallhouseError):
    """An environment variable or argument is unusable."""


class UnusableCall(SettingsError):
    """A call that Retell would refuse, or read otherwise than meant; nothing was sent."""


class NoCluster(SettingsError):
    """The database is none that tables can be distributed over; nothing was changed."""

    hint = (
        "Let CALLHOUSE_DATABASE_URL name the coordinator of a Citus cluster "
        "(docs/how-to/postgres.md). Everything else works on SQLite and PostgreSQL without Citus."
    )


class DatabaseRefused(SettingsError):
    """A database on a server cannot be used as its URL says."""

    hint = "Correct the database's URL or the server's access rules (docs/how-to/postgres.md)."


class ForeignDatabase(SettingsError):
    """The database belongs to another program, or the file is no database; nothing was changed."""

    hint = "Let CALLHOUSE_DATABASE_URL name a file or database that only callhouse uses."


class CopyWithoutBodies(SettingsError):
    """The file is a copy made by `callhouse export`, which left the raw bodies out."""

    hint = (
        "It can be browsed and exported. To receive, rebuild, show, sync or copy, use the original "
        "database, or a whole copy: callhouse export --private --to copy.db"
    )


class SignatureError(CallhouseError):
    """The request is not Retell's."""

    status = 401


class MissingSignature(SignatureError):
    """No X-Retell-Signature header."""

    hint = "Retell signs every webhook; `callhouse send` signs files by hand."


class MalformedSignature(SignatureError):
    """The header is not v=<milliseconds>,d=<64 lower-case hex digits>."""

    hint = "Forward the X-Retell-Signature header unchanged and only once."


class ForgedSignature(SignatureError):
    """No accepted key makes this digest of these bytes."""

    hint = (
        "Set RETELL_API_KEY to the key that carries the webhook badge, and make sure that no "
        "proxy rewrites the body."
    )
    # The hash of what arrived: whoever sent it can tell whether it was changed on the way.
    body_sha256: str | None = None


class StaleSignature(SignatureError):
    """The digest is right, its time is too far from this machine's clock."""

    hint = "Check this machine's clock, or raise CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS."
    # Whether the body is stored already, so that nothing was lost.
    is_replay = False


class BodyTooLarge(CallhouseError):
    """The body is over the limit."""

    status = 413
    hint = "Raise CALLHOUSE_MAX_BODY_BYTES."


class BodyTooSlow(CallhouseError):
    """The body stalled, or arrived too slowly."""

    status = 408
    hint = "Send the body at once, and at 50 KB/s or more."


class BodyUnreadable(CallhouseError):
    """The body ended early, or its chunks are malformed."""

    status = 400
    hint = "Send the whole body, with its length or in chunks as RFC 9112 has them."


class Overloaded(CallhouseError):
    """The worker has no memory left for another body now."""

    status = 503
    retry = True
    hint = "Nothing of this event was kept; send it again."


class StoreUnavailable(CallhouseError):
    """The event could not be stored now."""

    status = 503
    retry = True
    hint = "Nothing of this event was kept; send it again. /healthz says what is wrong."


class StoreBusy(StoreUnavailable):
    """Another process held the write lock too long."""


class LogDeleted(StoreBusy):
    """The write-ahead log was deleted, and only another process can put it back."""

    hint = (
        "If it lasts, restart everything that has the database open: serve, browse and others. "
        "docs/explanation/reliability.md says why."
    )


class StoreReplaced(StoreUnavailable):
    """The database file was moved, deleted or replaced under the receiver."""


class DatabaseAway(StoreUnavailable):
    """A database on a server could not be used."""

    hint = "Check that CALLHOUSE_DATABASE_URL names it, and that the server runs and lets you in."


class DatabaseUnreadable(StoreUnavailable):
    """A database file could not be read."""

    hint = "Look at the disk and at the file, as docs/reference/health.md says."


class SchemaMismatch(StoreUnavailable):
    """The file's schema is not this version's."""

    hint = "Run `callhouse migrate`."


class FileUnusable(CallhouseError):
    """A file, or what a command prints to, cannot be read or written."""

    hint = "Look at the disk, and whether the path is a file that you may read and write."


class NotStored(CallhouseError):
    """Nothing in the warehouse has this id."""

    status = 404


class NotAnEvent(CallhouseError):
    """The file holds neither a webhook body nor a call or chat object."""

    hint = 'send takes webhook bodies ({"event": …}) and call or chat objects.'


class QueryNotUnderstood(CallhouseError):
    """The words to search for cannot be read as a query."""

    status = 400
    hint = (
        'Write words, a "phrase in quotation marks", the begin* of a word, or -without a word; '
        "OR and parentheses stand between them."
    )


class ExportFailed(CallhouseError):
    """An export could not be written whole."""

    hint = "Nothing of it was kept. Look at the disk, then export again."


class CopyStopped(CallhouseError):
    """A copy into another database could not continue."""

    hint = (
        "Check that both databases can be used, and run the same command again: it continues where "
        "it stopped."
    )


class DemoFailed(CallhouseError):
    """One of the demo's processes did not come up, or an event was not stored."""


class PlacementUnknown(CallhouseError):
    """A call may have been placed, or not."""


class PlacedButNotStored(CallhouseError):
    """A call was placed, and could not be stored."""

    hint = "Do not place it again: its webhooks bring it, or `callhouse sync`."


class ListStopped(CallhouseError):
    """A list of calls cannot continue now."""

    hint = "Run the same command again later: it continues and calls nobody twice."


class RetellError(CallhouseError):
    """Retell's API did not do what was asked."""

    def __init__(
        self, message: str, *, answered: int | None = None, wait_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.answered = answered
        self.wait_seconds = wait_seconds

    @property
    def may_have_happened(self) -> bool:
        """Whether Retell may have done it all the same: the answer got lost, or says nothing."""
        return self.answered is not None and (self.answered < 300 or self.answered >= 500)


class BadRequest(RetellError):
    """Retell finds the request malformed, or forbids it to this contact."""

    hint = "Correct the argument that Retell names; numbers are written as +14155550123."


class KeyRefused(RetellError):
    """Retell does not know the key, or it may not do this."""

    hint = "Set RETELL_API_KEY to a key of this account, whole and without spaces."


class PaymentRequired(RetellError):
    """The account cannot pay."""

    hint = "Add a payment method, or credit, in Retell's dashboard under Billing."


class NotAtRetell(RetellError):
    """Retell has nothing with this id."""

    hint = "Check the id; what was deleted or outlived its retention is gone at Retell."


class UnusableReference(RetellError):
    """A number, agent or version that the request names is not this account's."""

    hint = "Check that the from number, the agent and its version belong to this key's workspace."


class RateLimited(RetellError):
    """Too many requests, or as many calls going on as the account may have."""

    retry = True
    hint = "Nothing was done. Try again later, more slowly, or raise the account's concurrency."


class RetellFailed(RetellError):
    """Retell had an error of its own."""

    retry = True
    hint = "Try again in a minute; https://status.retellai.com says whether it is known."


class RetellUnreachable(RetellError):
    """Nobody answered; nothing was sent."""

    retry = True
    hint = "Check the network and RETELL_BASE_URL."


class RetellSilent(RetellError):
    """The request was sent and no answer came."""

    retry = True
    may_have_happened = True
    hint = "Check the network, and look what became of it before you send it again."


class UnexpectedAnswer(RetellError):
    """An answer that Retell's API does not document."""

    hint = "Check RETELL_BASE_URL: something else than Retell's API seems to answer there."


class Refusal(CallhouseError):
    """The sandbox refuses a request, as Retell does; with the answer's status and headers."""

    def __init__(
        self, status: int, message: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers
