#!/usr/bin/env bash
# The old name of `bisnesctl start --multiprocess`, after scripts/provision. Arguments are passed to `bisnesctl start`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/provision
exec .venv/bin/bisnesctl start --multiprocess "$@"
