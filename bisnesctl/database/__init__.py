import bisnesctl.host.lean_psycopg2  # noqa: F401
