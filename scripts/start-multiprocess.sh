#!/usr/bin/env bash
# The old habit's name: sets up what is missing and starts the isolated processes. Arguments go to `bisnesctl start`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/provision
exec .venv/bin/bisnesctl start --multiprocess "$@"
