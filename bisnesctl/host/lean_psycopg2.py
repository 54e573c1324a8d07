"""Imports psycopg2 without Python's module for TLS, which would be 1.3 MB of memory.

psycopg2 only looks whether the module is there, since OpenSSL needed to be set up once before its version 1.1; its own
connections use libpq's TLS. `services.database` imports this module first, before there are threads.
"""

from bisnesctl.host.lean_imports import without

with without("ssl"):
    import psycopg2  # noqa: F401
