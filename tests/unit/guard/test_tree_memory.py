"""The memory of whole process trees, of real processes."""

import subprocess
import sys

from bisnesctl.host import tree_memory
from bisnesctl.host.process_memory import proportional

#: A parent that uses little, whose grandchild holds 200 MB.
TREE = """
import subprocess, sys
child = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])".format(
    "held = b'x' * (200 << 20); print('held', flush=True); input()")
subprocess.run([sys.executable, "-c", child])
"""


def over(limits):
    return tree_memory.over(limits, tree_memory.measure(limits))


def test_the_memory_of_a_grandchild_counts():
    with subprocess.Popen([sys.executable, "-c", TREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline().strip() == b"held"
        of_parent = proportional(parent.pid)
        assert of_parent is not None
        assert of_parent < 100 << 20
        assert over({parent.pid: 150 << 20})[parent.pid] > 200 << 20
        assert over({parent.pid: 1 << 30}) == {}
        parent.stdin.close()


def test_a_process_that_is_gone_uses_nothing():
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert over({gone.pid: 0}) == {}
