"""Datasette on a call and a chat full of personal data, visited by a reader and a masked login."""

import hashlib
import json
from contextlib import contextmanager
from urllib.parse import quote

from receiver.browse.charts import DASHBOARDS
from schema.questions import questions
from schema.sql.views import views
from schema.tables import ALL_TABLES
from tests.support.browsing import HASH, add_tokens, add_users, browsing
from tests.support.storing import ERASE, stored

START = 1_778_544_000_000
NUMBER = "+14155550123"
SECRET = "sesame"
SECRET_HASH = hashlib.sha256(SECRET.encode()).hexdigest()


def entries(word):
    """A transcript in which everything personal is the word."""
    return [
        {
            "role": "user",
            "content": f"I am {word}",
            "words": [{"word": f"{word} ", "start": 0.5, "end": 1.0}],
            "metadata": {"said": word},
        },
        {
            "role": "tool_call_invocation",
            "tool_call_id": "t1",
            "name": "book",
            "arguments": json.dumps({"name": word}),
            "time_sec": 2.0,
        },
        {
            "role": "tool_call_result",
            "tool_call_id": "t1",
            "content": json.dumps({"success": False, "name": word}),
            "successful": True,
            "time_sec": 3.0,
        },
        {"role": "dtmf", "digit": word, "time_sec": 4.0},
        {"role": "sms", "content": word, "time_sec": 5.0},
    ]


CALL = {
    "call_id": "call_1",
    "call_type": "phone_call",
    "call_status": "ended",
    "direction": "inbound",
    "from_number": NUMBER,
    "to_number": "+14155550199",
    "transfer_destination": NUMBER,
    "agent_id": "agent_1",
    "agent_name": "Dental",
    "agent_version": 1,
    "start_timestamp": START,
    "end_timestamp": START + 20_000,
    "duration_ms": 20_000,
    "disconnection_reason": "user_hangup",
    "telephony_identifier": {"twilio_call_sid": SECRET},
    "metadata": {"customer": SECRET},
    "retell_llm_dynamic_variables": {"name": SECRET},
    "collected_dynamic_variables": {"name": SECRET},
    "custom_sip_headers": {"X-Name": SECRET},
    "not_known_yet": SECRET,
    "recording_url": f"https://recordings.example/{SECRET}.wav",
    "scrubbed_recording_url": f"https://recordings.example/{SECRET}-scrubbed.wav",
    "public_log_url": f"https://recordings.example/{SECRET}.txt",
    "transcript": f"User: I am {SECRET}\n",
    "transcript_with_tool_calls": entries(SECRET),
    "scrubbed_transcript_with_tool_calls": entries("[NAME]"),
    "call_cost": {"combined_cost": 12.5, "product_costs": [{"product": "llm", "cost": 12.5}]},
    "call_analysis": {
        "call_summary": f"{SECRET} called",
        "user_sentiment": "Positive",
        "call_successful": True,
        "custom_analysis_data": {"who": SECRET},
        "unknown_field": SECRET,
    },
}
CHAT = {
    "chat_id": "chat_1",
    "chat_type": "sms_chat",
    "chat_status": "ended",
    "agent_id": "agent_1",
    "start_timestamp": START,
    "transcript": f"User: I am {SECRET}\n",
    "metadata": {"customer": SECRET},
    "from_number": NUMBER,
    "agent_number": NUMBER,
    "user_number": NUMBER,
    "not_known_yet": SECRET,
    "message_with_tool_calls": [
        {"role": "user", "message_id": "m", "content": SECRET, "created_timestamp": START}
    ],
    "chat_analysis": {"chat_summary": SECRET, "user_sentiment": "Neutral"},
}
# Whatever of the call and chat is personal, however it is cut.
PERSONAL_TEXTS = (SECRET, NUMBER, "4155550123", "14155550199")


def acquainted(db_path) -> dict[str, str]:
    """Jane reads, Max sees no personal data; each with a token of the name. Returns the tokens."""
    roles = {"jane": "reader", "max": "masked"}
    add_users(db_path, roles)
    return add_tokens(db_path, roles)


@contextmanager
def serving_personal(settings, store, db):
    """Yield Datasette on the call and the chat."""
    stored(store, {"event": "call_analyzed", "call": CALL}, at=START)
    stored(store, {"event": "chat_analyzed", "chat": CHAT}, at=START)
    step = {"transfer_destination": {"number": NUMBER}, "transfer_option": {"to": SECRET}}
    stored(store, {"event": "transfer_started", "call": {"call_id": "call_1"}, **step})
    db.execute(
        "INSERT INTO receipts (receipt_id, author, reason) VALUES ('r', ?, ?)", [SECRET, SECRET]
    )
    db.execute(
        "INSERT INTO media_files (call_id, kind, url, location, sha256) "
        "VALUES ('call_1', 'a', ?, ?, ?)",
        [SECRET, SECRET, SECRET],
    )
    db.execute(
        "INSERT INTO annotations (entity_id, annotation_id, kind, value) "
        "VALUES ('call_1', 'a', 'note', ?)",
        [SECRET],
    )
    db.execute(
        "INSERT INTO saved_views (view_id, name, query) VALUES ('a', ?, ?)", [SECRET, SECRET]
    )
    db.execute(
        "INSERT INTO outbox (entity_id, body_sha256, target, received_at, signature, body) "
        "VALUES ('call_1', 'a', 'b', 1, ?, ?)",
        [SECRET, SECRET.encode()],
    )
    db.execute(
        "INSERT INTO statements (month, grouped_by, timezone, closed_at, sums) "
        "VALUES ('2026-05', 'metadata.customer', 'UTC', 1, ?)",
        [json.dumps({f"sha256:{SECRET_HASH}": {}})],
    )
    db.execute(ERASE.replace("'asked for'", "?"), ("call_gone", 1, f"{SECRET} asked"))
    with browsing(settings, password_hash=HASH) as served:
        yield served


def pages(database):
    """Every way to the rows of a database that has an address of its own."""
    names = [*(table.name for table in ALL_TABLES), *views()]
    yield from ("/", f"/{database}", f"/{database}.json", "/.json")
    for name in names:
        yield from (f"/{database}/{name}", f"/{database}/{name}.json?_shape=array")
        yield from (f"/{database}/{name}.csv?_stream=1", f"/{database}/{name}.json?_shape=objects")
    for name in questions():
        yield f"/{database}/{name}"
        yield f"/{database}/{name}.json?_shape=array&tool=book&seconds=1&field=who"
    for table in ("calls", "analyses", "transcripts", "call_metrics"):
        yield f"/{database}/{table}/call_1"
        yield f"/{database}/{table}/call_1.json"
    yield f"/{database}/utterances/call_1,session,0"
    yield f"/{database}/attributes/call_1,metadata,customer.json"
    for column in ("from_number", "to_number", "transfer_destination", "extra"):
        yield f"/{database}/calls.json?_facet={column}&_facet_size=max"
        yield f"/{database}/calls?_sort={column}"
        yield f"/{database}/calls.json?{column}__contains=4155550"
    yield f"/{database}/attributes.json?_facet=value"
    yield f"/{database}/transcripts.json?_search={SECRET}"
    yield f"/{database}/transcripts.json?_search_transcript={SECRET}&_searchmode=raw"
    yield f"/{database}/calls.json?_fts_table=transcripts_fts&_search={SECRET}"
    yield f"/{database}/calls.json?_where=from_number='{quote(NUMBER)}'&_extra=query"
    yield f"/{database}/calls.json?_labels=on&_trace=1&_col=from_number"
    through = {"table": "attributes", "column": "value", "value": SECRET}
    yield f"/{database}/calls.json?_shape=array&_through={quote(json.dumps(through))}"
    yield from ("/-/call/call_1", "/-/call/call_1?scrubbed", "/-/call/call_1.json")
    yield from ("/-/chat/chat_1", "/-/chat/chat_1?scrubbed")
    yield from (
        "/-/call/call_1?turn=0",
        "/-/review",
        "/-/review?day=2026-05-12",
        "/-/review?mine=1",
        "/-/grades",
    )
    yield from ("/-/dashboards", *(f"/-/dashboards/{name}" for name in DASHBOARDS))
    yield from (f"/-/calls?q={SECRET}", "/-/calls?agent=Dental", f"/-/calls?number={NUMBER}")
    for name in ("databases", "plugins", "metadata", "settings", "versions", "threads", "actor"):
        yield f"/-/{name}.json"
    yield from ("/_memory", "/_internal", "/_internal.json?sql=select+*+from+columns")
    yield f"/{database}/transcripts_fts_data"
    yield f"/{database}/transcripts_fts"
    yield f"/{database}.db"


def ask(visit, sql, name, database):
    return visit(f"/{database}.json?_shape=arrays&sql={quote(sql)}", name)


# SQL that reads what is personal, or would confirm a guess, without a guard.
ATTACKS = (
    "select * from calls",
    "select group_concat(from_number || to_number) from calls",
    "select * from main.calls",
    'select * from "main".calls',
    "select * from main/**/.calls",
    "select * from [MAIN] . calls",
    "with calls as (select from_number, extra from main.calls) select * from calls",
    "with calls as (select from_number from calls) select * from calls",
    "with calls as (select value as from_number from attributes) select * from calls",
    "with attributes as (select value from main.attributes) select * from attributes",
    "with utterances as materialized (select transcript from transcripts) select * from utterances",
    "select from_number from calls full join (select null as from_number) using (from_number)",
    "select value from attributes full join (select null as value) using (value)",
    "select value from attributes natural full join (select null as value)",
    "select url from media right join (select null as url) using (url)",
    "select transcript from transcripts_fts full join (select null as transcript) "
    "using (transcript)",
    "select block from transcripts_fts_data full join (select null as block) using (block)",
    "select cast(block as text) from transcripts_fts_data",
    "select transcript from transcripts_fts where transcripts_fts match 'sesame'",
    "select highlight(transcripts_fts, 0, '', '') from transcripts_fts('sesame')",
    "select snippet(transcripts_fts, 0, '', '', '', 9) from transcripts_fts "
    "where transcripts_fts match 'sesame'",
    "select * from sqlite_stat1 natural join calls",
    "select * from sqlite_stat4",
    "select j.value from calls, json_each(json_array(calls.extra, from_number)) j",
    "select value from json_each((select extra from calls))",
    "select * from call_log",
    "select * from timeline",
    "select * from words",
    "select * from calls indexed by calls_from_number where from_number > ''",
    "select rowid, * from calls",
    "select _rowid_, * from transcripts where rowid = 1",
    "select a.value from attributes a join attributes b using (call_id, source, name, value)",
    "select (select value from attributes limit 1) union select max(from_number) from calls",
    "select from_number, row_number() over (order by from_number) from calls",
    "select * from (select * from calls where from_number glob '+1415*')",
    "select transcript from chats union select content from chat_messages",
    "select option, destination from transfers union select reason, '' from erasures",
    "select * from calls where call_id in (select call_id from attributes where value > '')",
    "explain select from_number from calls",
    "select sql from sqlite_master union select sql from sqlite_temp_master",
    "select * from pragma_table_info('calls')",
    "select * from pragma_function_list",
    "select * from pragma_database_list",
    "select * from retell.calls",
    "select * from temp.calls",
    "select load_extension('x')",
    "select readfile('/etc/passwd')",
    "attach 'retell.db' as other",
    "select 1; select * from calls",
    "create temp table t as select 1",
    "vacuum into '/tmp/x.db'",
)
GUESSES = [
    "select count(*) from calls where from_number = :it",
    "select count(*) from calls join (select :it as from_number) using (from_number)",
    "select count(*) from attributes join (select 'sesame' as value) using (value)",
    "select count(*) from attributes where value in ('sesame', :it)",
    "select count(*) from transcripts where transcript like '%sesame%'",
    "select count(*) from utterances where content like '%sesame%'",
    "select count(*) from call_log where who = :it",
    "select count(*) from media where url is not null",
]
