"""The guard: a listener of supervisord's events that restarts instances that end by themselves, within limits.

supervisord cannot delay a restart, count restarts over time, or measure the memory of a process tree; the guard can. It
acts on the state that supervisord reports, not on events, so an event that arrives twice or never, or a SIGKILL of the
guard itself, changes nothing.
"""

import bisnesctl.host.lean_structlog  # noqa: F401
