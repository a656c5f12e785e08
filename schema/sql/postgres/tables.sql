-- Tables and indexes of PostgreSQL only, or in place of SQLite's table or index of the same name. Each
-- statement is executed if nothing has its name.

-- A row for each call, chat or other entity that is written: transactions wait for each other there.
CREATE TABLE entity_locks (entity_id TEXT COLLATE "C" PRIMARY KEY);

-- Searched by a mirror every few seconds. A file has no mirrors that search it.
CREATE INDEX observations_last_received_at ON observations (last_received_at);
CREATE INDEX upstream_calls_asked_at ON upstream_calls (asked_at);

-- No row of an index may be longer than 2,700 bytes; Retell's text may be.
CREATE INDEX calls_from_number ON calls (from_number) WHERE length(from_number) <= 32;
CREATE INDEX attributes_value ON attributes (source, name, left(value, 200));
CREATE INDEX observations_unknown_event ON observations (left(event, 200), observed_at)
WHERE event NOT IN (
    'call_started', 'call_ended', 'call_analyzed', 'transcript_updated',
    'transfer_started', 'transfer_bridged', 'transfer_cancelled', 'transfer_ended',
    'chat_started', 'chat_ended', 'chat_analyzed',
    'call_inbound', 'chat_inbound', 'alert_triggered'
);

-- Full-text search, without triggers. It covers two hours of talk: the words of a longer transcript
-- may be more than an index takes.
CREATE INDEX transcripts_fts ON transcripts
USING gin (to_tsvector('simple', left(transcript, 100000)));
