"""The statements that a session on PostgreSQL sends."""

from receiver.store import sql
from receiver.store.postgres.connection import Session

WRITES = ("INSERT", "UPDATE", "DELETE")
# Statements that are not about one call, and why each may read or write several partitions.
OF_MANY_CALLS = {
    sql.CALL_WITH_REASON: "A reason that no version knows goes with the last call that has it.",
}


class Spy:
    """Records the statements of a session with their values, by transaction."""

    def __init__(self, patch):
        self.executed: list[tuple[int, str, object]] = []
        self.units = 0
        execute, executemany = Session.execute, Session.executemany
        upsert = Session.upsert

        def one(session, statement, values=()):
            self.units += statement.startswith("BEGIN")
            self.executed.append((self.units, statement, values))
            return execute(session, statement, values)

        def many(session, statement, several):
            several = list(several)
            self.executed += [(self.units, statement, values) for values in several]
            return executemany(session, statement, several)

        def rows(session, table, several):
            several = list(several)
            self.executed += [(self.units, sql.UPSERT[table], values) for values in several]
            return upsert(session, table, several)

        patch.setattr(Session, "execute", one)
        patch.setattr(Session, "upsert", rows)
        patch.setattr(Session, "executemany", many)
