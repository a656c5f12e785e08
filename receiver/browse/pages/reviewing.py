"""Reviews of calls, chats and turns: the part of their pages, and the form that writes it.

In: rows of annotations, and forms posted to /-/review. Out: what to show, and new rows.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from datasette import Forbidden, Response

from receiver import clock
from receiver.browse.access import ADMIN
from receiver.browse.formatting import label
from receiver.browse.pages import (
    REVIEWERS,
    Reader,
    authentication,
    fetch_rows,
    is_admin,
    message_page,
    require_entity_url,
    require_reader,
    reviewer,
)
from receiver.browse.pages.conversation import parse_number
from receiver.browse.pages.login import local_path
from receiver.browse.writing import audit, writer
from receiver.errors import NotStored, StoreUnavailable
from receiver.grading_settings import GradingSettings, Question
from receiver.store.reviewing import (
    VERDICTS,
    Annotation,
    annotation_id,
    answer_id,
    remove_annotation,
    write_annotations,
)

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

MAX_NOTE, MAX_TAG, MAX_TAGS = 10_000, 60, 20
_ANNOTATIONS = """
SELECT annotation_id, kind, track, position, name, value, author, created_at FROM annotations
WHERE entity_id = ? AND removed_at IS NULL ORDER BY created_at, annotation_id
"""
_TAGS = (
    "SELECT DISTINCT name FROM annotations WHERE kind = 'tag' AND name <> '' ORDER BY 1 LIMIT 50"
)
_TRACK = re.compile(r"(scrubbed_)?(pre_session|session|post_session)")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Remark:
    """One annotation, formatted."""

    id: str
    kind: str
    text: str
    author: str
    created_at: int
    value: str | None
    can_remove: bool


@dataclass(frozen=True, slots=True)
class Grade:
    """A model's answer to a question about a call, formatted."""

    # Of its score.
    id: str
    ask: str
    answer: str
    reason: str | None
    model: str
    created_at: int
    position: int | None


@dataclass(slots=True)
class Review:
    """What a page shows: remarks of people about all of it and about turns by position; answers of
    models; and its form, if the reader may write: `position` of the turn that it is about, None for
    all of it. `questions` with the reader's own answer can be answered for all of it."""

    entity_id: str
    grades: list[Grade] = field(default_factory=list)
    questions: list[tuple[Question, str]] = field(default_factory=list)
    whole: list[Remark] = field(default_factory=list)
    of_turns: dict[int, list[Remark]] = field(default_factory=dict)
    can_write: bool = False
    can_remove_grades: bool = False
    why_read_only: str = ""
    position: int | None = None
    assignee: str = ""
    reviewers: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    @property
    def questions_of_chats(self) -> list[tuple[Question, str]]:
        """Those that are for chats too."""
        return [(question, own) for question, own in self.questions if question.where_chats]


async def fetch_review(reader: Reader, request: "Request", entity_id: str) -> Review:
    """The reviews of a call or chat that the reader may see."""
    datasette, user = reader.datasette, reviewer(reader.datasette, request)
    asked = grading_of(datasette).questions
    review = Review(entity_id)
    rows = await fetch_rows(reader, _ANNOTATIONS, [entity_id])
    review.grades = _grades(rows, asked)
    for row in rows:
        if is_model(row["author"]):
            continue
        if (text := _text(row)) is None:
            continue
        can_remove = user is not None and (row["author"] == user or is_admin(datasette, request))
        remark = Remark(
            row["annotation_id"], row["kind"], text, row["author"], row["created_at"], row["value"],
            can_remove,
        )  # fmt: skip
        if row["position"] is None:
            review.whole.append(remark)
        else:
            review.of_turns.setdefault(row["position"], []).append(remark)
        if row["kind"] == "assignee":
            review.assignee = row["value"]
    if user is not None:
        review.why_read_only = writer(datasette).why_read_only
        review.can_write = not review.why_read_only
        review.can_remove_grades = review.can_write and is_admin(datasette, request)
        review.position = parse_number(request.args.get("turn"))
        review.reviewers = reviewers(datasette)
        review.tags = [row["name"] for row in await fetch_rows(reader, _TAGS)]
        values = {row["annotation_id"]: row["value"] or "" for row in rows}
        review.questions = [(q, values.get(answer_id("score", user, q), "")) for q in asked]
    return review


def grading_of(datasette: "Datasette") -> GradingSettings:
    """The questions of callhouse.toml; none on a Datasette that `serving` did not create."""
    settings = getattr(datasette, "callhouse_settings", None)
    return GradingSettings() if settings is None else settings.file.grading


def is_model(author: str | None) -> bool:
    """Whether an annotation is by a model, so no review."""
    return (author or "").startswith("model:")


def _grades(rows: list[dict[str, Any]], asked: tuple[Question, ...]) -> list[Grade]:
    """The newest answer of each model to each question."""
    texts = {question.name: question.ask for question in asked}
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        if is_model(row["author"]) and row["name"] and row["kind"] in ("score", "note"):
            # Ordered by time: a later one replaces it.
            found.setdefault((row["name"], row["author"]), {})[row["kind"]] = row
    return [
        Grade(
            id=score["annotation_id"],
            ask=texts.get(name, name),
            answer=label(score["value"]),
            reason=of.get("note", {}).get("value"),
            model=author.removeprefix("model:"),
            created_at=score["created_at"],
            position=score["position"],
        )
        for (name, author), of in found.items()
        if (score := of.get("score")) and score["value"] is not None
    ]


def _text(row: Mapping[str, Any]) -> str | None:
    """An annotation as text; None if this reader may not see its content."""
    match row["kind"], row["name"], row["value"]:
        case "tag", str(name), _:
            return name
        case "assignee", _, str(value):
            return f"Assigned to {value}"
        case "verdict", _, str(value):
            return label(value)
        case "score", str(name), str(value):
            return f"{label(name)}: {label(value)}"
        case _, _, value:
            return None if value is None else str(value)
    return None


def reviewers(datasette: "Datasette") -> list[str]:
    """The users who may review."""
    known = authentication(datasette)
    if known is None:
        return []
    names = sorted(
        name for name, user in known.access.known.users.items() if user.role in REVIEWERS
    )
    return [ADMIN, *names] if known.access.admin_actor else names


def require_reviewer(datasette: "Datasette", request: "Request") -> str:
    """The user who may write. Raises Forbidden."""
    user = reviewer(datasette, request)
    if user is None:
        raise Forbidden("Your role does not allow this.")
    return user


async def write_review(datasette: "Datasette", request: "Request") -> Response:
    """A posted form: write what is filled in, or remove one annotation.

    Raises Forbidden without the role, NotFound for a call that this reader cannot see.
    """
    reader, user = await require_reader(datasette, request), require_reviewer(datasette, request)
    form = {name: _UNSTORABLE.sub("�", text) for name, text in (await request.post_vars()).items()}
    entity_id = form.get("entity_id", "")
    url = await require_entity_url(reader, entity_id)
    try:
        if "remove" in form:
            await _remove(reader, request, entity_id, form["remove"], user)
        else:
            await _put(reader, form, user)
    except (NotStored, StoreUnavailable, ValueError) as error:
        return await refused(datasette, request, error)
    target = local_path(form["next"]) if form.get("next") else f"{url}#{_fragment(form)}"
    return Response.redirect(target)


def _fragment(form: Mapping[str, str]) -> str:
    position = parse_number(form.get("position"))
    return "review" if position is None else f"turn-{position}"


async def refused(datasette: "Datasette", request: "Request", error: Exception) -> Response:
    """The page for a review that could not be written."""
    status = 503 if isinstance(error, StoreUnavailable) else 400
    text = "The database is busy. Try again." if status == 503 else str(error)
    return await message_page(datasette, request, status, "Not saved", text)


async def _put(reader: Reader, form: Mapping[str, str], user: str) -> None:
    rows = annotations_of(
        form, user, now_ms=clock.now_ms(), asked=grading_of(reader.datasette).questions
    )
    entity_id, assignee = form["entity_id"], form.get("assignee")
    if assignee is not None:
        review = await fetch_rows(reader, _ANNOTATIONS, [entity_id])
        before = next((row["value"] for row in review if row["kind"] == "assignee"), "")
        if assignee and assignee not in reviewers(reader.datasette):
            raise ValueError("There is no such reviewer.")
        if assignee == before:
            rows = [row for row in rows if row.kind != "assignee"]
        elif not assignee:
            await _remove_one(reader, entity_id, annotation_id("assignee"), user)
    if rows:
        await writer(reader.datasette).run(partial(write_annotations, annotations=rows))
        audit(user, ", ".join(sorted({row.kind for row in rows})), entity_id)


def annotations_of(
    form: Mapping[str, str], user: str, *, now_ms: int, asked: tuple[Question, ...] = ()
) -> list[Annotation]:
    """The annotations that a form is filled in with. Raises ValueError with a message for people.

    A user has one verdict on a call and on each turn, and one answer to a question; a tag is there
    once, whoever adds it.
    """
    entity_id, position = form["entity_id"], parse_number(form.get("position"))
    track = None if position is None else form.get("track") or "session"
    if track is not None and not _TRACK.fullmatch(track):
        raise ValueError("There is no such turn.")

    def annotation(kind: str, id: str, *, name: str | None = None, value: str | None = None) -> Any:
        return Annotation(
            entity_id, id, kind, track, position, name, value, user, now_ms, now_ms
        )  # fmt: skip

    found = []
    if verdict := form.get("verdict"):
        if verdict not in VERDICTS:
            raise ValueError("A verdict is good, bad or unsure.")
        id = annotation_id("verdict", user, track, position)
        found.append(annotation("verdict", id, value=verdict))
    if note := form.get("note", "").replace("\r\n", "\n").strip():
        if len(note) > MAX_NOTE:
            raise ValueError(f"A note has at most {MAX_NOTE:,} characters.")
        found.append(annotation("note", secrets.token_hex(12), value=note))
    tags = dict.fromkeys(filter(None, map(str.strip, form.get("tags", "").split(","))))
    if len(tags) > MAX_TAGS or any(len(tag) > MAX_TAG for tag in tags):
        raise ValueError(f"At most {MAX_TAGS} tags at once, of {MAX_TAG} characters each.")
    for tag in tags:
        found.append(annotation("tag", annotation_id("tag", track, position, tag), name=tag))
    for question in asked:
        answer = form.get(f"answer.{question.name}") if position is None else None
        if answer and answer not in question.answers:
            raise ValueError(f"The answer to {question.name} is not one of its answers.")
        if answer:
            id = answer_id("score", user, question)
            found.append(annotation("score", id, name=question.name, value=answer))
    if assignee := form.get("assignee"):
        row = Annotation(
            entity_id, annotation_id("assignee"), "assignee", None, None, None, assignee, user,
            now_ms, now_ms,
        )  # fmt: skip
        found.append(row)
    return found


async def _remove(reader: Reader, request: "Request", entity_id: str, id: str, user: str) -> None:
    """Remove an annotation of the user's own, or as admin any; with a model's answer its reason.

    Raises Forbidden.
    """
    rows = await fetch_rows(reader, _ANNOTATIONS, [entity_id])
    removed = next((row for row in rows if row["annotation_id"] == id), None)
    author = removed["author"] if removed else user
    if author != user and not is_admin(reader.datasette, request):
        raise Forbidden("Only its author and an admin may remove this.")
    if removed and removed["kind"] == "score" and is_model(author):
        # First the reason, which is not shown without its answer.
        of_answer = ("author", "name", "created_at")
        for row in rows:
            if row["kind"] == "note" and all(row[name] == removed[name] for name in of_answer):
                await _remove_one(reader, entity_id, row["annotation_id"], user)
    await _remove_one(reader, entity_id, id, user)


async def _remove_one(reader: Reader, entity_id: str, id: str, user: str) -> None:
    remove = partial(
        remove_annotation, entity_id=entity_id, annotation_id=id, now_ms=clock.now_ms()
    )
    if kind := await writer(reader.datasette).run(remove):
        audit(user, f"removed {kind}", entity_id)
