"""The objects of a database, from PostgreSQL's catalogues. Databases with equal catalogues are equal."""

import contextlib
from typing import Any

import psycopg2

#: The table of applied migrations is no part of the schema.
LEDGER = "schema_migrations"

_QUERIES = {
    "columns": """
        SELECT c.relname, c.relkind::text, c.reloptions::text, a.attname, format_type(a.atttypid, a.atttypmod),
               a.attnotnull, a.attidentity::text, pg_get_expr(d.adbin, d.adrelid), a.attnum
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE n.nspname = 'public' AND c.relkind IN ('r', 'v') ORDER BY 1, 9""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2",
    "triggers": """
        SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        ORDER BY 1, 2""",
    "functions": """
        SELECT proname, pg_get_functiondef(p.oid) FROM pg_proc p
        WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
          AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e') ORDER BY 1, 2""",
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1",
    "enums": "SELECT enumtypid::regtype::text, enumlabel FROM pg_enum ORDER BY 1, enumsortorder",
    "extensions": "SELECT extname FROM pg_extension ORDER BY 1",
    "processes": "SELECT process_name FROM process_health ORDER BY 1",
}


def run(dsn: str, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
    """Run statements in autocommit, as psql would, and return the last one's rows."""
    with contextlib.closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


def catalogue(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """All objects of the schema `public` but the table of migrations."""
    return {name: [row for row in run(dsn, query) if row[0] != LEDGER] for name, query in _QUERIES.items()}
