"""Stand-ins for Citus' functions, with the rules that they enforce.

Rows stay where they are. The rules are those of Citus' documentation, "Creating and Modifying
Distributed Tables", and of its error messages.
"""

import psycopg

from receiver.addresses import PostgresUrl

VERSION = "12.1-1"

_EXTENSION = """
    INSERT INTO pg_extension
    VALUES (990001, 'citus', 10, 'pg_catalog'::regnamespace, false, %s, NULL, NULL)
"""

STAND_INS = r"""
CREATE TABLE spread (
    relation regclass PRIMARY KEY, kind text NOT NULL, spread_by text, colocated_with text
);
CREATE VIEW pg_dist_partition AS
    SELECT relation AS logicalrelid, spread_by AS partkey,
        CASE kind WHEN 'distributed' THEN 'h' ELSE 'n' END AS partmethod,
        CASE kind WHEN 'reference' THEN 't' ELSE 's' END AS repmodel
    FROM spread;
CREATE FUNCTION column_to_column_name(table_name regclass, column_var_text text) RETURNS text
    LANGUAGE sql STRICT AS $$ SELECT column_var_text $$;

CREATE TABLE nodes (node text PRIMARY KEY, synchronous_commit text NOT NULL DEFAULT 'on');
INSERT INTO nodes VALUES ('worker-1'), ('worker-2');
CREATE FUNCTION run_command_on_workers(
    command text, OUT nodename text, OUT success boolean, OUT result text
) RETURNS SETOF record LANGUAGE sql AS $$ SELECT node, true, synchronous_commit FROM nodes $$;

CREATE FUNCTION names_of(relation oid, columns smallint[]) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(a.attname::text ORDER BY k.n)
    FROM unnest(columns) WITH ORDINALITY k (number, n)
    JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = k.number
$$;

CREATE FUNCTION type_of(relation regclass, name text) RETURNS text LANGUAGE sql AS $$
    SELECT atttypid || ' ' || attcollation FROM pg_attribute
    WHERE attrelid = relation AND attname = name
$$;

CREATE FUNCTION create_distributed_table(
    table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count integer DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    key record;
BEGIN
    IF EXISTS (SELECT 1 FROM spread WHERE relation = table_name) THEN
        RAISE 'table "%" is already distributed', table_name;
    END IF;
    IF EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = table_name AND NOT tgisinternal) THEN
        RAISE 'cannot distribute relation "%" because it has triggers', table_name
            USING ERRCODE = 'feature_not_supported';
    END IF;
    FOR key IN SELECT names_of(indrelid, indkey::smallint[]) AS columns FROM pg_index
        WHERE indrelid = table_name AND (indisunique OR indisexclusion)
    LOOP
        IF distribution_column <> ALL (key.columns) THEN
            RAISE 'cannot create constraint on "%"', table_name
                USING ERRCODE = 'invalid_object_definition';
        END IF;
    END LOOP;
    IF colocate_with NOT IN ('none', 'default') THEN
        IF NOT EXISTS (
            SELECT 1 FROM spread WHERE relation = colocate_with::regclass AND kind = 'distributed'
        ) THEN
            RAISE 'relation % is not distributed', colocate_with;
        END IF;
        IF type_of(table_name, distribution_column) <> (
            SELECT type_of(relation, spread_by) FROM spread WHERE relation = colocate_with::regclass
        ) THEN
            RAISE 'cannot colocate tables % and %', colocate_with, table_name;
        END IF;
    END IF;
    FOR key IN SELECT confrelid::regclass AS parent, confdeltype, confupdtype,
            names_of(conrelid, conkey) AS here, names_of(confrelid, confkey) AS there
        FROM pg_constraint WHERE contype = 'f' AND conrelid = table_name
    LOOP
        IF current_setting('citus.shard_replication_factor', true)::integer > 1 THEN
            RAISE 'cannot create foreign key constraint' USING ERRCODE = 'feature_not_supported';
        END IF;
        IF NOT EXISTS (SELECT 1 FROM spread WHERE relation = key.parent) THEN
            RAISE 'referenced table "%" must be a distributed table or a reference table',
                key.parent USING ERRCODE = 'feature_not_supported';
        END IF;
        IF NOT EXISTS (
            SELECT 1 FROM spread s WHERE relation = key.parent AND (kind = 'reference' OR (
                s.colocated_with = colocate_with
                AND array_position(key.here, distribution_column)
                    = array_position(key.there, s.spread_by)
                AND key.confdeltype NOT IN ('n', 'd') AND key.confupdtype NOT IN ('n', 'd', 'c')
            ))
        ) THEN
            RAISE 'cannot create foreign key constraint since relations are not colocated or not '
                'referencing a reference table' USING ERRCODE = 'feature_not_supported';
        END IF;
    END LOOP;
    INSERT INTO spread VALUES (table_name, 'distributed', distribution_column, CASE colocate_with
        WHEN 'none' THEN table_name::text ELSE colocate_with END);
END
$$;

CREATE FUNCTION create_reference_table(table_name regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM spread WHERE relation = table_name) THEN
        RAISE 'table "%" is already distributed', table_name;
    END IF;
    IF EXISTS (
        SELECT 1 FROM pg_constraint JOIN spread ON relation = confrelid AND kind = 'distributed'
        WHERE contype = 'f' AND conrelid = table_name
    ) THEN
        RAISE 'cannot create foreign key constraint since foreign keys from reference tables to '
            'distributed tables are not supported' USING ERRCODE = 'feature_not_supported';
    END IF;
    IF EXISTS (SELECT 1 FROM spread WHERE kind = 'distributed') AND current_setting(
        'citus.multi_shard_modify_mode', true) IS DISTINCT FROM 'sequential'
    THEN
        RAISE 'cannot run it because there was a parallel operation in the transaction';
    END IF;
    INSERT INTO spread VALUES (table_name, 'reference');
END
$$;

CREATE FUNCTION refuse_keys_from_local_tables() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM pg_event_trigger_ddl_commands() made
        JOIN pg_constraint ON conrelid = made.objid AND contype = 'f'
        JOIN spread ON relation = confrelid AND kind = 'distributed'
        WHERE NOT EXISTS (SELECT 1 FROM spread s WHERE s.relation = conrelid)
    ) THEN
        RAISE 'cannot create foreign key constraint since relations are not colocated or not '
            'referencing a reference table' USING ERRCODE = 'feature_not_supported';
    END IF;
END
$$;
CREATE EVENT TRIGGER refuse_keys_from_local_tables ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION refuse_keys_from_local_tables();

CREATE FUNCTION truncate_local_data_after_distributing_table(table_name regclass)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM spread WHERE relation = table_name) THEN
        RAISE 'supplied parameter is not a distributed relation';
    END IF;
    IF EXISTS (
        SELECT 1 FROM pg_constraint WHERE contype = 'f' AND confrelid = table_name
            AND conrelid::regclass NOT IN (SELECT relation FROM spread)
    ) THEN
        RAISE 'cannot truncate a table referenced in a foreign key constraint by a local table';
    END IF;
END
$$;
"""


def install(where: PostgresUrl, version: str = VERSION) -> None:
    """Make a database look like a cluster's coordinator. The user is a superuser."""
    with psycopg.connect(where.url, autocommit=True) as connection:
        connection.execute("SET allow_system_table_mods = on")
        connection.execute(_EXTENSION, (version,))
        connection.execute(STAND_INS)
