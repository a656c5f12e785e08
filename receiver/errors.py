"""Every error callhouse raises on purpose, in one tree.

CallhouseError
├── SettingsError            an environment variable or argument is invalid
│   ├── UnusableCall         a call that Retell would reject or misread
│   ├── NoCluster            the database is not the coordinator of a Citus cluster
│   ├── DatabaseRefused      the server rejects the database's URL or role
│   ├── ForeignDatabase      the database is another program's, or the file is not a database
│   └── CopyWithoutBodies    the file is a copy without raw bodies
├── SignatureError           the request is not Retell's; nothing of it is stored
│   ├── MissingSignature
│   ├── MalformedSignature
│   ├── ForgedSignature      made with another key, or for another body
│   └── StaleSignature       authentic, but its time is outside the tolerance
├── BodyTooLarge             over CALLHOUSE_MAX_BODY_BYTES
├── BodyTooSlow              the body did not arrive in time
├── BodyUnreadable           the body ended early, or its chunks are malformed
├── Overloaded               the worker has no memory for another body now
├── StoreUnavailable         the event could not be stored now; a retry can help
│   ├── StoreBusy            another process held the write lock too long
│   │   └── LogDeleted       the write-ahead log was deleted while another process has it open
│   ├── StoreReplaced        the database file was moved, deleted or replaced
│   ├── DatabaseAway         no connection to a database on a server
│   ├── DatabaseUnreadable   a database file could not be read
│   └── SchemaMismatch       the file's schema is not this version's
├── FileUnusable             a file, or the output of a command, cannot be read or written
├── NotStored                nothing with this id is stored
├── ExportFailed             an export could not be written; nothing of it was kept
├── CopyStopped              a copy into another database could not continue
├── NotAnEvent               a file to send is neither a webhook body nor a call or chat object
├── QueryNotUnderstood       a search query cannot be parsed
├── QueryTooSlow             a query took longer than it may
├── DownloadRefused          a download would be cut, or take too long
├── PlacementUnknown         a call may have been placed, or not
├── PlacedButNotStored       a call was placed, and could not be stored
├── ChangedButNotStored      a call or chat was changed at Retell, and could not be stored
├── ListStopped              a list of calls cannot continue now
├── RecordingNotKept         a recording could not be fetched now
│   ├── LinkDead             Retell no longer serves the link
│   ├── LinkRefused          the link is not one that callhouse fetches
│   ├── DiskReserved         the disk has less free space than the reserve
│   └── StorageUnavailable   the directory or bucket cannot be written or read
├── JobIsRunning             another process runs this job now
├── BackupFailed             a backup could not be made, read or restored
├── GradingFailed            a model did not answer
├── DatabaseInUse            a file to restore is open in another process
├── RetellError              a request to Retell's API failed
│   ├── BadRequest           400
│   ├── KeyRefused           401, 403
│   ├── PaymentRequired      402
│   ├── NotAtRetell          404
│   ├── UnusableReference    422
│   ├── RateLimited          429
│   ├── RetellFailed         5xx
│   ├── RetellUnreachable    no connection: nothing was sent
│   ├── RetellSilent         sent, but no response was received
│   └── UnexpectedAnswer     a response that Retell does not document
├── ApiError                 an error response of the sandbox
└── DemoFailed               a process of the demo did not start, or an event was not stored

Each has a message for a person, `hint` (what to do next), `status` (of the HTTP response) and
`retry` (whether sending the same again can help). Messages never contain bodies, phone numbers or
keys. A RetellError has Retell's status in `answered`, and in `wait_seconds` how long to wait.
"""

from collections.abc import Mapping
from types import MappingProxyType


def docs(page: str) -> str:
    """The address of a page of docs/, which an installed callhouse does not contain."""
    return f"https://github.com/callhouse/callhouse/blob/main/docs/{page}"


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
    """An environment variable or argument is invalid."""


class UnusableCall(SettingsError):
    """A call that Retell would reject or misread; nothing was sent."""


class NoCluster(SettingsError):
    """The database is not the coordinator of a Citus cluster; nothing was changed."""

    hint = (
        "Set CALLHOUSE_DATABASE_URL to the coordinator of a Citus cluster. Everything else works "
        f"on SQLite and PostgreSQL without Citus. See {docs('how-to/postgres.md')}"
    )


class DatabaseRefused(SettingsError):
    """The server rejects the database's URL or role."""

    hint = (
        f"Correct the database's URL or the server's access rules. See {docs('how-to/postgres.md')}"
    )


class ForeignDatabase(SettingsError):
    """The database is another program's, or the file is not a database; nothing was changed."""

    hint = "Set CALLHOUSE_DATABASE_URL to a file or database that only callhouse uses."


class CopyWithoutBodies(SettingsError):
    """The file is a copy made by `callhouse export`, without raw bodies."""

    hint = (
        "It can be browsed and exported. To receive, rebuild, show, sync or copy, use the original "
        "database, or a complete copy: callhouse export --private --to copy.db"
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
    """The digest was made with another key, or for another body."""

    hint = (
        "Set RETELL_API_KEY to the key with the webhook badge, and check that no proxy changes the "
        "body."
    )
    # The hash of the received body: the sender can check whether it was changed on the way.
    body_sha256: str | None = None


class StaleSignature(SignatureError):
    """The digest is right, but its time is too far from this machine's clock."""

    hint = "Check this machine's clock, or raise CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS."
    # Whether the body is stored already.
    is_replay = False


class BodyTooLarge(CallhouseError):
    """The body is over the limit."""

    status = 413
    hint = "Raise CALLHOUSE_MAX_BODY_BYTES."


class BodyTooSlow(CallhouseError):
    """The body stalled, or arrived too slowly."""

    status = 408
    hint = "Send the body at 50 KB/s or more, without pauses."


class BodyUnreadable(CallhouseError):
    """The body ended early, or its chunks are malformed."""

    status = 400
    hint = "Send the complete body, with its length or in valid chunks (RFC 9112)."


class Overloaded(CallhouseError):
    """The worker has no memory for another body now."""

    status = 503
    retry = True
    hint = "The event was not stored; send it again."


class StoreUnavailable(CallhouseError):
    """The event could not be stored now."""

    status = 503
    retry = True
    hint = "Try again. `callhouse doctor` and /healthz report the problem."


class StoreBusy(StoreUnavailable):
    """Another process held the write lock too long."""


class LogDeleted(StoreBusy):
    """The write-ahead log was deleted while another process has it open."""

    hint = (
        "If it lasts, restart everything that has the database open: serve, browse and others. "
        f"For the reason, see {docs('explanation/reliability.md')}"
    )


class StoreReplaced(StoreUnavailable):
    """The database file was moved, deleted or replaced under the receiver."""


class DatabaseAway(StoreUnavailable):
    """No connection to a database on a server."""

    hint = "Check CALLHOUSE_DATABASE_URL, and that the server runs and accepts the role."


class DatabaseUnreadable(StoreUnavailable):
    """A database file could not be read."""

    hint = f"Check the disk and the file. See {docs('reference/health.md')}"


class SchemaMismatch(StoreUnavailable):
    """The file's schema is not this version's."""

    hint = "Run `callhouse migrate`."


class FileUnusable(CallhouseError):
    """A file, or the output of a command, cannot be read or written."""

    hint = "Check the disk, and that the path is a file you can read and write."


class NotStored(CallhouseError):
    """Nothing with this id is stored."""

    status = 404


class NotAnEvent(CallhouseError):
    """The file contains neither a webhook body nor a call or chat object."""

    hint = 'send accepts webhook bodies ({"event": …}) and call or chat objects.'


class QueryNotUnderstood(CallhouseError):
    """A search query cannot be parsed."""

    status = 400
    hint = 'Use words, "a phrase", prefix* and -excluded, combined with OR and parentheses.'


class QueryTooSlow(CallhouseError):
    """A query took longer than it may."""

    hint = "Let it use an index, such as that of calls.from_number."


class DownloadRefused(CallhouseError):
    """A download would be cut, or take too long."""

    status = 503
    hint = "Add dates or another filter, or use callhouse export."


class ExportFailed(CallhouseError):
    """An export could not be written."""

    hint = "The incomplete export was deleted. Check the disk, then export again."


class CopyStopped(CallhouseError):
    """A copy into another database could not continue."""

    hint = (
        "Check that both databases can be used, and run the same command again: it continues where "
        "it stopped."
    )


class DemoFailed(CallhouseError):
    """A process of the demo did not start, or an event was not stored."""


class PlacementUnknown(CallhouseError):
    """A call may have been placed, or not."""


class PlacedButNotStored(CallhouseError):
    """A call was placed, and could not be stored."""

    hint = "Do not place it again. Its webhooks, or `callhouse sync`, will store it."


class ChangedButNotStored(CallhouseError):
    """A call or chat was changed at Retell, and could not be stored."""

    hint = (
        "Do not repeat it. `callhouse sync --since DAY`, with the day on which the call or chat "
        "began, will store it."
    )


class ListStopped(CallhouseError):
    """A list of calls cannot continue now."""

    hint = "Run the same command again later. It continues, and calls nobody twice."


class RecordingNotKept(CallhouseError):
    """A recording could not be fetched now."""

    retry = True


class LinkDead(RecordingNotKept):
    """Retell no longer serves the link."""


class LinkRefused(RecordingNotKept):
    """The link is not one that callhouse fetches."""

    retry = False
    hint = "CALLHOUSE_MEDIA_ALLOW_PRIVATE=1 allows private addresses."


class DiskReserved(RecordingNotKept):
    """The disk has less free space than the reserve."""

    hint = "Free space, or lower CALLHOUSE_MEDIA_RESERVE_BYTES."


class StorageUnavailable(RecordingNotKept):
    """The directory or bucket cannot be written or read."""

    hint = "Check CALLHOUSE_MEDIA_URL, the disk, and the AWS_ variables of a bucket."


class JobIsRunning(CallhouseError):
    """Another process runs this job now."""

    hint = "Wait until it has ended; `callhouse status` shows it. A killed one is free in a minute."


class BackupFailed(CallhouseError):
    """A backup could not be made, read or restored."""

    hint = (
        "The incomplete file was deleted, and nothing was replaced. Check the disk, then try again."
    )


class GradingFailed(CallhouseError):
    """A model did not answer several times in a row. What was answered before is stored."""

    hint = (
        "Check the key, the credit and the limits at the model's provider; the next run continues. "
        f"See {docs('how-to/grading.md')}"
    )
    retry = True


class DatabaseInUse(CallhouseError):
    """A file to restore is open in another process; nothing was changed."""

    hint = "Stop serve, browse, work and every other command of callhouse, then restore again."


class RetellError(CallhouseError):
    """A request to Retell's API failed."""

    def __init__(
        self, message: str, *, answered: int | None = None, wait_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.answered = answered
        self.wait_seconds = wait_seconds

    @property
    def may_have_happened(self) -> bool:
        """Whether Retell may have done it although there is no usable response."""
        return self.answered is not None and (self.answered < 300 or self.answered >= 500)


class BadRequest(RetellError):
    """Retell finds the request malformed, or blocks this contact."""

    hint = "Correct the argument that Retell names. Numbers are written as +14155550123."


class KeyRefused(RetellError):
    """Retell does not know the key, or the key has no permission for this."""

    hint = "Set RETELL_API_KEY to a key of this account, complete and without spaces."


class PaymentRequired(RetellError):
    """The account has no payment method or credit."""

    hint = "Add a payment method or credit in Retell's dashboard, under Billing."


class NotAtRetell(RetellError):
    """Retell has nothing with this id."""

    hint = "Check the id. Retell may have deleted it, or its retention has ended."


class UnusableReference(RetellError):
    """A number, agent or version that the request names is not this account's."""

    hint = "Check that the from number, the agent and its version belong to this key's workspace."


class RateLimited(RetellError):
    """Too many requests, or too many concurrent calls."""

    retry = True
    hint = "Nothing was done. Retry later, more slowly, or raise the account's concurrency."


class RetellFailed(RetellError):
    """Retell had an internal error."""

    retry = True
    hint = "Retry in a minute, and see https://status.retellai.com."


class RetellUnreachable(RetellError):
    """No connection; nothing was sent."""

    retry = True
    hint = "Check the network and RETELL_BASE_URL."


class RetellSilent(RetellError):
    """The request was sent, but no response was received."""

    retry = True
    may_have_happened = True
    hint = "Check the network, and check at Retell whether it was done before you repeat it."


class UnexpectedAnswer(RetellError):
    """A response that Retell's API does not document."""

    hint = "Check RETELL_BASE_URL: it may not be Retell's API."


class ApiError(CallhouseError):
    """An error response of the sandbox, as Retell's, with its status and headers."""

    def __init__(
        self, status: int, message: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers
