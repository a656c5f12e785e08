"""Questions that people ask again and again, each a file of SQL with a head that says what it is.

A head is `-- title: …`, `-- description: …` and a line for each parameter,
`-- :name = default. Meaning.` Datasette binds an empty text to a parameter that nobody filled in,
so the SQL itself puts the default there.
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
    """What a question can be asked about."""

    name: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Question:
    """SQL that can be asked as it is; `name` is its place in a URL."""

    name: str
    title: str
    description: str
    parameters: tuple[Parameter, ...]
    sql: str

    @property
    def explained(self) -> str:
        """The description and what each parameter means."""
        words = (f"{p.name}: {p.meaning} {p.default} if empty." for p in self.parameters)
        return " ".join([self.description, *words])


@cache
def questions() -> dict[str, Question]:
    """Every question by its name, in the order of their titles."""
    files = importlib.resources.files("schema") / "questions"
    found = [
        parse(file.name.removesuffix(".sql"), file.read_text(encoding="utf-8"))
        for file in files.iterdir()
        if file.name.endswith(".sql")
    ]
    return {question.name: question for question in sorted(found, key=lambda q: q.title)}


def parse(name: str, text: str) -> Question:
    """A question from its file."""
    head, _, sql = text.partition("\n\n")
    head = _CONTINUED.sub(" ", head)
    said = dict(_HEAD.findall(head))
    parameters = tuple(Parameter(*match) for match in _PARAMETER.findall(head))
    return Question(name, said["title"], said["description"], parameters, sql.strip().rstrip(";"))
