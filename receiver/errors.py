"""Every error callhouse raises on purpose, in one tree.

CallhouseError
├── SettingsError            an environment variable or argument is unusable
├── SignatureError           the request is not Retell's; nothing of it is stored
│   ├── MissingSignature
│   ├── MalformedSignature
│   ├── ForgedSignature      no accepted key makes this digest
│   └── StaleSignature       authentic, but its time is outside the tolerance
├── BodyTooLarge             over CALLHOUSE_MAX_BODY_BYTES
├── StoreUnavailable         the event could not be stored now; a retry can help
│   ├── StoreBusy            another process held the write lock too long
│   ├── StoreReplaced        the database file was moved, deleted or replaced
│   └── SchemaMismatch       the file's schema is not this version's
├── NotStored                nothing in the warehouse has this id
├── NotAnEvent               a file to send is neither a webhook body nor a call or chat object
├── QueryNotUnderstood       words to search for cannot be read as a query
└── DemoFailed               a process of the demo did not come up, or an event was not stored

Each carries `status` (the HTTP answer), `hint` (what to do next) and `retry` (whether sending the
same again can help). Messages never contain bodies, phone numbers or keys.
"""


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


class StaleSignature(SignatureError):
    """The digest is right, its time is too far from this machine's clock."""

    hint = "Check this machine's clock, or raise CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS."


class BodyTooLarge(CallhouseError):
    """The body is over the limit."""

    status = 413
    hint = "Raise CALLHOUSE_MAX_BODY_BYTES."


class StoreUnavailable(CallhouseError):
    """The event could not be stored now."""

    status = 503
    retry = True
    hint = "Nothing of this event was kept; send it again. /healthz says what is wrong."


class StoreBusy(StoreUnavailable):
    """Another process held the write lock too long."""


class StoreReplaced(StoreUnavailable):
    """The database file was moved, deleted or replaced under the receiver."""


class SchemaMismatch(StoreUnavailable):
    """The file's schema is not this version's."""

    hint = "Run `callhouse migrate`."


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


class DemoFailed(CallhouseError):
    """One of the demo's processes did not come up, or an event was not stored."""
