"""The modules of ours that gunicorn's master imports."""

import subprocess
import sys

MODULES = """
import sys
import gunicorn.app.wsgiapp, gunicorn.arbiter, gunicorn.workers.base
before = set(sys.modules)
import services.gunicorn_conf
print(*sorted(name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names))
"""


def test_a_master_imports_nothing_that_only_its_worker_needs() -> None:
    done = subprocess.run([sys.executable, "-c", MODULES], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["services", "services.gunicorn_conf"]
