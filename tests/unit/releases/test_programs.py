"""The programs of a release: found by their paths, and run without the modules of another place."""

import subprocess
import sys

import pytest

from bisnesctl import paths, release
from bisnesctl.lifecycle import boot_unit
from bisnesctl.processes import cron_block
from bisnesctl.processes.deployment import open_deployment
from bisnesctl.releases import programs
from bisnesctl.releases.programs import CommandFailed
from bisnesctl.releases.store import InstalledRelease
from tests.support.processes.servers import settings_in
from tests.support.waiting import wait_until


@pytest.fixture
def folder(tmp_path):
    """A virtual environment with a `bisnesctl` that does what a file says."""
    (tmp_path / "releases" / "0007" / "bin").mkdir(parents=True)
    made = tmp_path / "releases" / "0007"
    (made / "bin" / "python").symlink_to(sys.executable)
    (made / "bin" / "bisnesctl").touch()
    return made


def test_a_process_is_found_by_the_folder_that_it_runs_from(folder, tmp_path):
    child = subprocess.Popen([str(folder / "bin" / "python"), "-c", "import time; time.sleep(600)"])
    try:
        wait_until(lambda: programs.folder_of(child.pid, [tmp_path / "releases" / "0008", folder]) == folder)
        assert programs.users_of(folder) == ["python"]
        assert programs.users_of(tmp_path / "releases" / "000") == []  # the beginning of its name is another folder
    finally:
        child.kill()
        child.wait()
    assert programs.users_of(folder) == []
    assert programs.folder_of(child.pid, [folder]) is None


def test_a_command_that_fails_is_explained_with_its_error(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    own, said = InstalledRelease(7, folder, "0.2.0"), []
    (folder / "bin" / "python").unlink()
    script = (
        '#!/bin/sh\necho "path: $PYTHONPATH"\necho "words: $*"\necho "error: api is broken"\necho "  its log"\nexit 5\n'
    )
    (folder / "bin" / "python").write_text(script)
    (folder / "bin" / "python").chmod(0o755)
    with pytest.raises(CommandFailed, match=r"^`bisnesctl reload` of release 7 \(0\.2\.0\): api is broken$") as failed:
        programs.run(own, settings_in(tmp_path), ["reload", "api"], said.append)
    assert failed.value.status == 5
    assert said == ["path:", "words: -P -m bisnesctl reload api", "error: api is broken", "  its log"]


def test_systemd_and_cron_start_the_current_release_whichever_it_is(folder, tmp_path):
    settings = settings_in(tmp_path, BISNES_HOME=str(tmp_path))
    deployment = open_deployment(settings)
    assert paths.current_tool(settings.home) is None
    assert "releases" not in boot_unit.make(deployment, True, "bisnesctl").text
    (settings.home / "releases" / "current").symlink_to("0007")
    tool = f"{settings.home}/releases/current/bin/bisnesctl"
    assert f'"{tool}" "start"' in boot_unit.make(deployment, True, "bisnesctl").text
    assert any(f"{tool} cron probe" in line for line in cron_block.render(settings, heal=True))


def test_a_release_names_its_number_and_revision(folder, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(folder))
    assert release.installed().number == 0
    (folder / release.RECORD).write_text('{"number": 7, "revision": "abcdef0123"}')
    assert str(release.installed()).startswith("7 (")
    assert str(release.installed()).endswith(", abcdef0123)")
