"""`python -m services.connectors.wwebjs COMPANY PHONE`: runs the session of one WhatsApp Web bot until SIGTERM."""

import os
import sys

from services.runtime import cpu_priority, memory


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    cpu_priority.lower(os.getpid())  # first, because the start needs the most CPU time
    memory.begin()
    from services.connectors.wwebjs.session import process

    return process.run(sys.argv[1], int(sys.argv[2]))


if __name__ == "__main__":
    sys.exit(main())
