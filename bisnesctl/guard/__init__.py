"""The guard: a listener of supervisord that restarts what ends by itself, within the limits of its row.

supervisord cannot wait before a restart, count restarts, or see the memory of a whole tree; this can. What it does
follows from what supervisord says is there, not from what it was told happened, so that an event which comes twice or
never, or a SIGKILL of the guard itself, changes nothing.
"""
