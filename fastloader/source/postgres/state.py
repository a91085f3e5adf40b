"""A text that changes whenever a row of a PostgreSQL table may have changed."""

from __future__ import annotations

from ...errors import ConfigError
from .literals import literal
from .table import VIEW, PostgresTable
from .types import OID, Query, text

TABLE_STATE = """
SELECT c.relkind IN ('r', 'm') AND NOT c.relhassubclass OR c.relkind = 'p' AND NOT EXISTS (
         SELECT FROM pg_partition_tree(c.oid) t JOIN pg_class leaf ON leaf.oid = t.relid
         WHERE t.isleaf AND leaf.relkind <> 'r'),
       concat_ws(' ', (SELECT system_identifier FROM pg_control_system()),
                 (SELECT timeline_id FROM pg_control_checkpoint()),
                 (SELECT oid FROM pg_database WHERE datname = current_database()), c.oid),
       (SELECT string_agg(concat_ws(' ', attname, attnum, atttypid, a.xmin), ',' ORDER BY attnum)
        FROM pg_attribute a WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
FROM pg_class c WHERE c.oid = {table}
"""
"""Returns whether the table's rows have an xmin, which table it is, and its columns."""


def table_state(table: PostgresTable, query: Query) -> str:
    """Return the text for :meth:`fastloader.source.protocol.Source.state`.

    Each version of a row has an xmin, the number of the transaction that made it. So keys and xmins
    together change with every change to any row. (VACUUM leaves xmin as it is.) The text also says
    which table of which server this is and which columns it has, because a table that is dropped
    and created again may repeat the numbers. All of it is the same on a physical replica.

    Raises
    ------
    ConfigError
        For a query, a view, a foreign table or large objects, whose changes cannot be noticed.
    """
    remedy = "turn the cache off, or read a table or a materialized view"
    if not table.is_named:
        raise ConfigError(
            f"{table.name}: PostgreSQL cannot tell when the rows of a query change; turn the cache "
            f"off, or read a materialized view. To make one: {table.materialized}; then pass "
            f'table="{VIEW}" instead of query='
        )
    if OID in table.image_oids.values():
        raise ConfigError(
            f"{table.name}: PostgreSQL cannot tell when a large object changes; turn the cache "
            f"off, or keep the images in a bytea column"
        )
    (result,) = query(TABLE_STATE.format(table=f"{literal(table.table)}::regclass"))
    about = [text(result.value(0, i)) for i in range(3)]
    if about[0] != "t":
        raise ConfigError(
            f"{table.name}: PostgreSQL cannot tell when the rows of a view or a foreign table "
            f"change; {remedy}"
        )
    rows = table.selected("xmin AS fl_xmin, tableoid AS fl_tableoid, *")
    query("SET LOCAL enable_seqscan = on")
    (result,) = query(
        f"SELECT concat(count(*), ' ', sum(hashtextextended("
        f"concat({table.key}::text, ' ', q.fl_xmin, ' ', q.fl_tableoid), 0))) FROM {rows} q",
        table.params,
    )
    query("SET LOCAL enable_seqscan = off")
    return " ".join([*about[1:], text(result.value(0, 0))])
