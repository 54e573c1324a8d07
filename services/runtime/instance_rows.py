"""The rows of running instances as other processes read them: who else serves a program, and from where."""

import socket

from services.database.connection import Connection, query_value

#: Whether instances of a program live on other machines.
ELSEWHERE = """
SELECT EXISTS (SELECT FROM process_instances WHERE process_name = %(process)s AND host <> %(host)s
    AND last_heartbeat > now() - %(max_age)s * interval '1 second')"""


def exist_elsewhere(connection: Connection, process: str, max_age: float) -> bool:
    """Whether instances of a program live on other machines. `max_age`: how many seconds a heartbeat counts."""
    values = {"process": process, "host": socket.gethostname(), "max_age": max_age}
    return bool(query_value(connection, ELSEWHERE, values))
