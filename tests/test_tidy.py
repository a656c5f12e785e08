"""Style rules that fail, instead of a document that is ignored."""

import ast
import re
from pathlib import Path

from tests.support import ROOT

SOURCES = sorted([*ROOT.glob("receiver/**/*.py"), *ROOT.glob("schema/**/*.py")])
TESTS = sorted(ROOT.glob("tests/**/*.py"))
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_SANDBOX_LINES = 3_500
MAX_WORDS_IN_A_NAME = 8
# A list of every table, which reads best in one place.
LONG_FILES = {"schema/tables.py"}


# What Datasette documents for plugins; all else belongs in datasette_compat.py.
PUBLIC_DATASETTE = {
    "datasette": {"Forbidden", "NotFound", "Request", "Response", "hookimpl"},
    "datasette.app": {"Datasette"},
    "datasette.utils": {"tilde_decode", "tilde_encode"},
    "datasette_auth_passwords.utils": {"hash_password", "verify_password"},
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def roots(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imports(path)}


def outside(room: str) -> list[Path]:
    return [path for path in SOURCES if not name(path).startswith(room)]


def test_files_stay_small():
    for path in [*SOURCES, *TESTS]:
        if name(path) not in LONG_FILES:
            assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES, name(path)


def test_functions_stay_small():
    for path in [*SOURCES, *TESTS]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno
                assert lines < MAX_FUNCTION_LINES, f"{name(path)} {node.name}"


def test_schema_does_no_io_and_imports_no_receiver():
    forbidden = {"receiver", "flask", "sqlite3", "pysqlite3", "sqlite_utils", "psycopg", "httpx"}
    for path in ROOT.glob("schema/**/*.py"):
        assert not roots(path) & forbidden, name(path)
        assert not re.search(r"\bopen\(", path.read_text(encoding="utf-8")), name(path)


def test_only_the_two_apps_know_flask():
    apps = {"receiver/webhook/app.py", "receiver/sandbox/server.py"}
    assert {name(path) for path in SOURCES if "flask" in roots(path)} == apps


def test_only_browse_knows_datasette():
    for path in outside("receiver/browse/"):
        assert not [root for root in roots(path) if root.startswith("datasette")], name(path)


def test_one_file_depends_on_datasette_internals():
    for path in ROOT.glob("receiver/browse/**/*.py"):
        if path.name == "datasette_compat.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{name(path)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                assert not [a.name for a in node.names if a.name.startswith("datasette")], where
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("datasette"):
                names = {alias.name for alias in node.names}
                assert names <= PUBLIC_DATASETTE.get(node.module, set()), where
            elif isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
                # os._exit is documented; every other private name is someone else's.
                assert ast.unparse(node.value) in ("self", "os"), where


def test_sandbox_imports_only_signature_and_errors():
    allowed = {"receiver.errors", "receiver.webhook.signature"}
    for path in ROOT.glob("receiver/sandbox/**/*.py"):
        ours = {module for module in imports(path) if module.startswith(("receiver.", "schema"))}
        others = {module for module in ours if not module.startswith("receiver.sandbox")}
        assert others <= allowed, name(path)


def test_sandbox_stays_small():
    sources = ROOT.glob("receiver/sandbox/**/*.py")
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in sources)
    assert lines <= MAX_SANDBOX_LINES


def test_every_package_has_a_docstring():
    for path in SOURCES:
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), name(path)


def test_only_store_imports_a_database_driver():
    for path in outside("receiver/store/"):
        assert not roots(path) & {"sqlite3", "pysqlite3", "sqlite_utils", "psycopg"}, name(path)


def test_only_store_writes():
    # schema/sql has statements, and runs none.
    for path in (p for p in outside("receiver/store/") if not name(p).startswith("schema/sql/")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(INSERT INTO|DELETE FROM|UPDATE \w+ SET)\b", text), name(path)


def test_sql_uses_the_macros_of_a_call():
    """When a call began and whether it is over is in schema/sql/macros.py alone.

    Migrations are never edited, and people read the questions.
    """
    by_hand = re.compile(r"coalesce\((\w+\.|\{\w*\}\.)?start_timestamp|\b[cu]\.level *[<>=]")
    others = ("schema/sql/macros.py", "schema/sql/migrations/", "schema/questions/")
    for path in [*SOURCES, *ROOT.glob("receiver/**/*.sql"), *ROOT.glob("schema/**/*.sql")]:
        if not name(path).startswith(others):
            found = by_hand.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{name(path)}: {found and found[0]}"


def test_no_leftovers():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text), name(path)


def test_no_test_imports_another_test():
    """A test module is imported by pytest alone; what several need is in tests/support/."""
    for path in TESTS:
        modules = {
            f"{node.module}.{alias.name}"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        found = {module for module in imports(path) | modules if ".test_" in f".{module}"}
        assert found == set(), name(path)


def test_test_names_have_at_most_eight_words():
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert node.name.count("_") <= MAX_WORDS_IN_A_NAME, f"{name(path)} {node.name}"
