"""What to do about the errors of a PostgreSQL server, added to the server's own words."""

from __future__ import annotations

TOO_MANY, RECOVERY_CONFLICT = "53300", "40001"

ADVICE = {
    "42501": "GRANT this user what is missing",
    TOO_MANY: "use fewer workers, or a higher max_connections, or a pooler such as PgBouncer",
    "57014": "raise statement_timeout for this user (ALTER ROLE ... SET statement_timeout = ...), "
    "or lower fetch_bytes",
    RECOVERY_CONFLICT: "on a hot standby set hot_standby_feedback = on, or pass "
    'consistency="latest"',
    "72000": 'raise old_snapshot_threshold on the server, or pass consistency="latest"',
}
"""The remedy for each SQLSTATE."""

SNAPSHOT_GONE = (
    'make a new loader; or pass consistency="latest", which needs no snapshot. The snapshot ended '
    "with the connection that held it. Either the server was restarted, or the connection was "
    "terminated: by an administrator or, on a standby without hot_standby_feedback, because the "
    "primary removed rows that it could still see"
)

DIFFERENT = (
    "the query returns other keys when it is read again, and it is read for each key range. Where "
    "it numbers, limits or picks rows, order them by unique columns: row_number() OVER (ORDER BY "
    "id), or ORDER BY id LIMIT 100"
)

OTHER_DATABASE = (
    "this is another database than the one whose keys were read, and no replica of it. Either the "
    "host name leads to another server now, or the database was created again. Make a new loader"
)


def advice(sqlstate: str | None, *, shared: bool) -> str:
    """Return what to append to the server's words.

    Parameters
    ----------
    sqlstate
        The server's code, or None if the error is not the server's.
    shared
        Whether the transaction uses the snapshot of another connection.
    """
    if sqlstate is None:
        return ""
    if shared and sqlstate in ("22023", "42704"):
        return f": {SNAPSHOT_GONE}"
    remedy = ADVICE.get(sqlstate)
    return f" (SQLSTATE {sqlstate}{'; ' + remedy if remedy else ''})"
