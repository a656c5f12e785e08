"""`python -m schema.questions > docs/reference/questions.md` writes the committed file."""

from schema.questions import Question, questions

_HEAD = """# Questions ready to ask

On the page of the database in Datasette these stand below the tables. Open one, fill in a number
or leave it empty for the default, and press the button. Each answer has CSV and JSON links, and its
SQL can be shown and edited. Days are counted back from the newest call. They live in
`schema/questions/`, one file each.
"""


def document() -> str:
    """Markdown with a section for every question."""
    return "\n".join([_HEAD, *map(_section, questions().values())])


def _section(question: Question) -> str:
    rows = "\n".join(f"| `{p.name}` | {p.default} | {p.meaning} |" for p in question.parameters)
    table = f"\n| parameter | default | meaning |\n|---|---|---|\n{rows}\n"
    return f"## {question.title}\n\n{question.description} (`{question.name}`)\n{table}"


if __name__ == "__main__":
    print(document(), end="")
