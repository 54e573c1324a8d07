"""The modules of ours that gunicorn's master imports."""

import subprocess
import sys

MODULES = "import services.gunicorn_conf, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def test_a_master_imports_nothing_that_only_its_worker_needs() -> None:
    done = subprocess.run([sys.executable, "-c", MODULES], capture_output=True, text=True, check=True)
    assert not {"flask", "psycopg2", "pydantic", "redis", "uvicorn"} & set(done.stdout.split())
