"""The drawn tree of exceptions is the real one, and each error says what to do next."""

import importlib
import pkgutil
import re

import pytest

import receiver
import schema
from receiver import errors
from receiver.errors import CallhouseError


def all_errors() -> list[type[CallhouseError]]:
    """Every subclass that any module of the packages defines, the base first."""
    for package in (receiver, schema):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    found = [CallhouseError]
    for error in found:
        found += [e for e in error.__subclasses__() if e.__module__.startswith("receiver")]
    return found


def drawn_parents() -> dict[str, str]:
    """Class name -> name of its parent, as the docstring of receiver.errors draws it."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for branch, name in re.findall(r"^((?:[│ ]   )*[├└]── )(\w+)", errors.__doc__, re.MULTILINE):
        path[len(branch) // 4 - 1 :] = [name]
        parents[name] = path[-2] if len(path) > 1 else "CallhouseError"
    return parents


def test_drawn_tree_is_the_class_tree():
    real = {e.__name__: e.__base__.__name__ for e in all_errors() if e is not CallhouseError}
    assert drawn_parents() == real


def test_every_error_is_defined_in_one_place():
    assert {e.__module__ for e in all_errors()} == {"receiver.errors"}


def test_every_error_has_a_docstring_of_one_line():
    assert all(e.__doc__ and "\n" not in e.__doc__ for e in all_errors())


@pytest.mark.parametrize(
    ("name", "status", "retry"),
    [
        ("CallhouseError", 500, False),
        ("SettingsError", 500, False),
        ("SignatureError", 401, False),
        ("MissingSignature", 401, False),
        ("MalformedSignature", 401, False),
        ("ForgedSignature", 401, False),
        ("StaleSignature", 401, False),
        ("BodyTooLarge", 413, False),
        ("StoreUnavailable", 503, True),
        ("StoreBusy", 503, True),
        ("StoreReplaced", 503, True),
        ("DatabaseAway", 503, True),
        ("SchemaMismatch", 503, True),
        ("NotStored", 404, False),
        ("ExportFailed", 500, False),
        ("NotAnEvent", 500, False),
        ("DemoFailed", 500, False),
        ("UnusableCall", 500, False),
        ("PlacementUnknown", 500, False),
        ("PlacedButNotStored", 500, False),
        ("ChangedButNotStored", 500, False),
        ("ListStopped", 500, False),
        ("RetellError", 500, False),
        ("BadRequest", 500, False),
        ("KeyRefused", 500, False),
        ("PaymentRequired", 500, False),
        ("NotAtRetell", 500, False),
        ("UnusableReference", 500, False),
        ("RateLimited", 500, True),
        ("RetellFailed", 500, True),
        ("RetellUnreachable", 500, True),
        ("RetellSilent", 500, True),
        ("UnexpectedAnswer", 500, False),
    ],
)
def test_error_has_its_status_and_retry_flag(name, status, retry):
    error = getattr(errors, name)("a message")
    assert (error.status, error.retry, str(error)) == (status, retry, "a message")


def test_errors_of_an_event_have_a_hint():
    leaves = [
        e for e in all_errors() if not e.__subclasses__() and e.status in {401, 408, 413, 503}
    ]
    assert len(leaves) == 13
    assert all(e.hint for e in leaves)


def test_errors_of_the_api_have_a_hint():
    assert all(e.hint for e in errors.RetellError.__subclasses__())


def test_hint_of_an_error_replaces_its_classs():
    special = errors.SchemaMismatch("newer", hint="Install the newer version.")
    assert special.hint == "Install the newer version."
    assert errors.SchemaMismatch("older").hint == "Run `callhouse migrate`."
