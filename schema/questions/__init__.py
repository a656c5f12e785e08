"""Questions: frequent queries, each a SQL file with a header.

The header has `-- title: …`, `-- description: …` and a line for each parameter, `-- :name =
default. Meaning.` Datasette binds an empty string to an empty parameter, so the SQL itself applies
the default.
"""

import importlib.resources
import re
from dataclasses import dataclass
from functools import cache

_HEAD = re.compile(r"^-- (title|description): (.+)$", re.MULTILINE)
_PARAMETER = re.compile(r"^-- :(\w+) = (.+?)\. (.+)$", re.MULTILINE)
_CONTINUED = re.compile(r"\n--   (?=\S)")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a question; `default` is a number, or says which value an empty one means."""

    name: str
    default: str
    meaning: str

    @property
    def value(self) -> str:
        """What to fill in."""
        return self.default if self.default.isdecimal() else ""


@dataclass(frozen=True, slots=True)
class Question:
    """A query with its title and parameters; `name` is part of its URL."""

    name: str
    title: str
    description: str
    parameters: tuple[Parameter, ...]
    sql: str

    @property
    def explained(self) -> str:
        """The description and the meaning of each parameter."""
        words = (f"{p.name}: {p.meaning} {p.default} if empty." for p in self.parameters)
        return " ".join([self.description, *words])


@cache
def questions() -> dict[str, Question]:
    """All questions by name, ordered by title."""
    files = importlib.resources.files("schema") / "questions"
    found = [
        parse(file.name.removesuffix(".sql"), file.read_text(encoding="utf-8"))
        for file in files.iterdir()
        if file.name.endswith(".sql")
    ]
    return {question.name: question for question in sorted(found, key=lambda q: q.title)}


def parse(name: str, text: str) -> Question:
    """Parse the file of a question."""
    head, _, sql = text.partition("\n\n")
    head = _CONTINUED.sub(" ", head)
    header = dict(_HEAD.findall(head))
    parameters = tuple(Parameter(*match) for match in _PARAMETER.findall(head))
    return Question(
        name, header["title"], header["description"], parameters, sql.strip().rstrip(";")
    )
