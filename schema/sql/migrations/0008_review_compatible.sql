-- What people say about calls, and what they keep and share of them. What was removed stays as a row
-- without content, so that a copy or mirror learns of it.

CREATE TABLE annotations (
    entity_id TEXT NOT NULL,
    annotation_id TEXT NOT NULL,
    kind TEXT,
    track TEXT,
    position INTEGER,
    name TEXT,
    value TEXT,
    author TEXT,
    created_at INTEGER,
    changed_at INTEGER,
    removed_at INTEGER,
    PRIMARY KEY (entity_id, annotation_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX annotations_kind ON annotations (kind, name);

CREATE TABLE share_links (
    call_id TEXT NOT NULL,
    link_id TEXT NOT NULL,
    is_masked INTEGER,
    author TEXT,
    created_at INTEGER,
    expires_at INTEGER,
    changed_at INTEGER,
    revoked_at INTEGER,
    times_opened INTEGER,
    last_opened_at INTEGER,
    PRIMARY KEY (call_id, link_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE saved_views (
    view_id TEXT NOT NULL PRIMARY KEY,
    name TEXT,
    query TEXT,
    author TEXT,
    is_shared INTEGER,
    created_at INTEGER,
    changed_at INTEGER,
    removed_at INTEGER
) STRICT, WITHOUT ROWID;

-- An account's newest calls are sorted by it, as by the indexes of agent, direction and reason. Its
-- agents are in the index too.
-- PostgreSQL has none of them.
DROP INDEX IF EXISTS calls_account;
CREATE INDEX calls_account ON calls (
    account, coalesce(start_timestamp, nullif(observed_at, 0)), agent_id
);

-- Words of summaries and chats. Summaries have twice the rowid of their analysis, chats one more. The
-- index has no copy of its texts, so that 'delete' needs the text that was indexed.
CREATE VIRTUAL TABLE summaries_fts USING fts5 (text, content="");

-- Texts in scripts that have no spaces between words, of which summaries and transcripts_fts make one
-- word of many: three characters at a time. Transcripts have three times their rowid, summaries one
-- more, chats two more. The two spaces are there for the last two characters. Text in other scripts is
-- not indexed: most texts have no character of more than a byte, and for them that is decided quickly.
CREATE VIRTUAL TABLE characters_fts USING fts5 (text, content="", tokenize="trigram");

-- Its terms, so that words of one or two characters are found.
CREATE VIRTUAL TABLE characters_terms USING fts5vocab (characters_fts, row);

CREATE TRIGGER transcripts_search_insert AFTER INSERT ON transcripts BEGIN
    INSERT INTO characters_fts (rowid, text)
    SELECT rowid, text || '  '
    FROM (SELECT new.rowid * 3 AS rowid, new.transcript AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;

CREATE TRIGGER transcripts_search_delete AFTER DELETE ON transcripts BEGIN
    INSERT INTO characters_fts (characters_fts, rowid, text)
    SELECT 'delete', rowid, text || '  '
    FROM (SELECT old.rowid * 3 AS rowid, old.transcript AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;

CREATE TRIGGER transcripts_search_update AFTER UPDATE ON transcripts
WHEN old.transcript IS NOT new.transcript BEGIN
    INSERT INTO characters_fts (characters_fts, rowid, text)
    SELECT 'delete', rowid, text || '  '
    FROM (SELECT old.rowid * 3 AS rowid, old.transcript AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
    INSERT INTO characters_fts (rowid, text)
    SELECT rowid, text || '  '
    FROM (SELECT new.rowid * 3 AS rowid, new.transcript AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;

CREATE TRIGGER analyses_search_insert AFTER INSERT ON analyses BEGIN
    INSERT INTO summaries_fts (rowid, text)
    SELECT rowid, text
    FROM (SELECT new.rowid * 2 AS rowid, new.call_summary AS text)
    WHERE text IS NOT NULL;
    INSERT INTO characters_fts (rowid, text)
    SELECT rowid, text || '  '
    FROM (SELECT new.rowid * 3 + 1 AS rowid, new.call_summary AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;

CREATE TRIGGER analyses_search_delete AFTER DELETE ON analyses BEGIN
    INSERT INTO summaries_fts (summaries_fts, rowid, text)
    SELECT 'delete', rowid, text
    FROM (SELECT old.rowid * 2 AS rowid, old.call_summary AS text)
    WHERE text IS NOT NULL;
    INSERT INTO characters_fts (characters_fts, rowid, text)
    SELECT 'delete', rowid, text || '  '
    FROM (SELECT old.rowid * 3 + 1 AS rowid, old.call_summary AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;

CREATE TRIGGER analyses_search_update AFTER UPDATE ON analyses
WHEN old.call_summary IS NOT new.call_summary BEGIN
    INSERT INTO summaries_fts (summaries_fts, rowid, text)
    SELECT 'delete', rowid, text
    FROM (SELECT old.rowid * 2 AS rowid, old.call_summary AS text)
    WHERE text IS NOT NULL;
    INSERT INTO characters_fts (characters_fts, rowid, text)
    SELECT 'delete', rowid, text || '  '
    FROM (SELECT old.rowid * 3 + 1 AS rowid, old.call_summary AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
    INSERT INTO summaries_fts (rowid, text)
    SELECT rowid, text
    FROM (SELECT new.rowid * 2 AS rowid, new.call_summary AS text)
    WHERE text IS NOT NULL;
    INSERT INTO characters_fts (rowid, text)
    SELECT rowid, text || '  '
    FROM (SELECT new.rowid * 3 + 1 AS rowid, new.call_summary AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;

CREATE TRIGGER chats_search_insert AFTER INSERT ON chats BEGIN
    INSERT INTO summaries_fts (rowid, text)
    SELECT rowid, text
    FROM (
        SELECT
            new.rowid * 2 + 1 AS rowid,
            coalesce(new.chat_summary, '') || ' ' || coalesce(new.transcript, '') AS text
    );
    INSERT INTO characters_fts (rowid, text)
    SELECT rowid, text || '  '
    FROM (
        SELECT
            new.rowid * 3 + 2 AS rowid,
            coalesce(new.chat_summary, '') || ' ' || coalesce(new.transcript, '') AS text
    )
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;

CREATE TRIGGER chats_search_delete AFTER DELETE ON chats BEGIN
    INSERT INTO summaries_fts (summaries_fts, rowid, text)
    SELECT 'delete', rowid, text
    FROM (
        SELECT
            old.rowid * 2 + 1 AS rowid,
            coalesce(old.chat_summary, '') || ' ' || coalesce(old.transcript, '') AS text
    );
    INSERT INTO characters_fts (characters_fts, rowid, text)
    SELECT 'delete', rowid, text || '  '
    FROM (
        SELECT
            old.rowid * 3 + 2 AS rowid,
            coalesce(old.chat_summary, '') || ' ' || coalesce(old.transcript, '') AS text
    )
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;

CREATE TRIGGER chats_search_update AFTER UPDATE ON chats
WHEN old.transcript IS NOT new.transcript OR old.chat_summary IS NOT new.chat_summary BEGIN
    INSERT INTO summaries_fts (summaries_fts, rowid, text)
    SELECT 'delete', rowid, text
    FROM (
        SELECT
            old.rowid * 2 + 1 AS rowid,
            coalesce(old.chat_summary, '') || ' ' || coalesce(old.transcript, '') AS text
    );
    INSERT INTO characters_fts (characters_fts, rowid, text)
    SELECT 'delete', rowid, text || '  '
    FROM (
        SELECT
            old.rowid * 3 + 2 AS rowid,
            coalesce(old.chat_summary, '') || ' ' || coalesce(old.transcript, '') AS text
    )
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
    INSERT INTO summaries_fts (rowid, text)
    SELECT rowid, text
    FROM (
        SELECT
            new.rowid * 2 + 1 AS rowid,
            coalesce(new.chat_summary, '') || ' ' || coalesce(new.transcript, '') AS text
    );
    INSERT INTO characters_fts (rowid, text)
    SELECT rowid, text || '  '
    FROM (
        SELECT
            new.rowid * 3 + 2 AS rowid,
            coalesce(new.chat_summary, '') || ' ' || coalesce(new.transcript, '') AS text
    )
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;

INSERT INTO summaries_fts (rowid, text)
SELECT rowid, text
FROM (SELECT x.rowid * 2 AS rowid, x.call_summary AS text FROM analyses x)
WHERE text IS NOT NULL
UNION ALL
SELECT rowid, text
FROM (
    SELECT
        x.rowid * 2 + 1 AS rowid,
        coalesce(x.chat_summary, '') || ' ' || coalesce(x.transcript, '') AS text
    FROM chats x
);

INSERT INTO characters_fts (rowid, text)
SELECT rowid, text || '  '
FROM (SELECT x.rowid * 3 AS rowid, x.transcript AS text FROM transcripts x)
WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END
UNION ALL
SELECT rowid, text || '  '
FROM (SELECT x.rowid * 3 + 1 AS rowid, x.call_summary AS text FROM analyses x)
WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END
UNION ALL
SELECT rowid, text || '  '
FROM (
    SELECT
        x.rowid * 3 + 2 AS rowid,
        coalesce(x.chat_summary, '') || ' ' || coalesce(x.transcript, '') AS text
    FROM chats x
)
WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
