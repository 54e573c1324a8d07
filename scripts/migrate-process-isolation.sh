#!/usr/bin/env bash
# The old habit's name for `bisnesctl migrate`: looks first whether what the isolated processes need is there. Arguments
# go to `bisnesctl migrate`, such as --status or --dry-run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=.venv/bin
if [ ! -x $bin/bisnesctl ]; then
  echo 'migrate-process-isolation.sh: nothing is installed here yet: run scripts/provision first' >&2
  exit 1
fi

$bin/python - >&2 <<'PYTHON' || exit
import sys

from bisnesctl.errors import BisnesError
from bisnesctl.lifecycle import database_setup, preflight
from bisnesctl.processes.deployment import make_folders
from bisnesctl.settings import load

try:
    settings = load()
    preflight.check_installed()
    print("✓ supervisor is installed")
    make_folders(settings)
    print(f"✓ {settings.log_dir} can be written")
    if settings.embedded_redis:
        print("✓ Redis is the embedded one, which starts with the rest")
    else:
        database_setup.check_redis(settings)
        print("✓ Redis answers")
except BisnesError as error:
    print(f"migrate-process-isolation.sh: {error}")
    sys.exit(error.exit_code)
PYTHON
exec $bin/bisnesctl migrate "$@"
