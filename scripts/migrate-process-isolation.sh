#!/usr/bin/env bash
# The old name of `bisnesctl migrate`. First checks the requirements of the isolated processes. Arguments are passed to
# `bisnesctl migrate`, such as --status or --dry-run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=.venv/bin
if [ ! -x $bin/bisnesctl ]; then
  echo 'migrate-process-isolation.sh: nothing is installed yet: run scripts/provision first' >&2
  exit 1
fi

$bin/python - >&2 <<'PYTHON' || exit
import sys

from bisnesctl.errors import BisnesError
from bisnesctl.lifecycle import preflight, start
from bisnesctl.processes.deployment import make_folders
from bisnesctl.settings import load

try:
    settings = load()
    preflight.check_installed()
    print("✓ supervisor is installed")
    make_folders(settings)
    print(f"✓ {settings.log_dir} is writable")
    if settings.embedded_redis:
        print("✓ the embedded Redis starts with the other processes")
    else:
        start.check_redis(settings)
        print("✓ Redis answers")
except BisnesError as error:
    print(f"migrate-process-isolation.sh: {error}")
    sys.exit(error.exit_code)
PYTHON
exec $bin/bisnesctl migrate "$@"
