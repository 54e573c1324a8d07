"""Alerts: signals become incidents, and operators are notified of each incident once, and once of its end.

The model is that of Alertmanager: an incident is pending while its signal is bad for a short time, then it fires, then
it is resolved. The program `alerts` (`python -m bisnesctl.alerts`) evaluates the signals; it needs neither the services
nor PostgreSQL nor Redis.
"""

import bisnesctl.host.lean_structlog  # noqa: F401
