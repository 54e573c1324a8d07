"""The last words of a browser that did not start, and its temporary files."""

from pathlib import Path

import pytest

from services.connectors.wwebjs.browser import chromium
from services.connectors.wwebjs.browser.chromium import Program, StartFailed
from tests.support.waiting import HANG_SECONDS


def test_errors_of_the_shell_script_around_chromium_are_left_out(tmp_path: Path) -> None:
    said = "/usr/bin/chromium: 9: [: 25269768192: unexpected operator\nthe profile is in use"
    program = Program(("sh", "-c", f"echo '{said}'; exit 21"), tmp_path / "chromium.log")
    with pytest.raises(StartFailed) as caught:
        program.port(tmp_path / "port", r"(\d+)", HANG_SECONDS)
    program.kill()
    assert "the profile is in use" in str(caught.value)
    assert "unexpected operator" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "damaged"),
    [
        ("[9:9:1126/1:ERROR:leveldb.cc(1)] Corruption: checksum mismatch: 000005.ldb", True),
        ("[9:9:1126/1:ERROR:file.cc(1)] write failed: No space left on device (28)", True),
        ("[9:9:1126/1:ERROR:gpu.cc(1)] no GPU", False),
    ],
)
def test_damage_of_a_profile_is_read_from_the_log_of_chromium(tmp_path: Path, line: str, damaged: bool) -> None:
    assert chromium.profile_damage(tmp_path) == ""
    (tmp_path / "chromium.log").write_text(f"something\n{line}\n")
    assert chromium.profile_damage(tmp_path) == (line.partition("] ")[2] if damaged else "")


def test_a_program_has_a_private_folder_for_temporary_files_which_is_removed(tmp_path: Path) -> None:
    command = ("sh", "-c", "touch $TMPDIR/left && stat -c %a $TMPDIR && echo $TMPDIR")
    program = Program(command, tmp_path / "chromium.log")
    assert program.wait(HANG_SECONDS)
    mode, folder = (tmp_path / "chromium.log").read_text().split()
    program.kill()
    assert (mode, Path(folder)) == ("700", chromium.temporary_folder(tmp_path))
    assert (Path(folder) / "left").exists()
    chromium.remove_temporary(tmp_path)
    assert not Path(folder).exists()


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    folder = chromium.temporary_folder(tmp_path)
    folder.symlink_to(tmp_path)
    try:
        program = Program(("sh", "-c", "echo $TMPDIR"), tmp_path / "chromium.log")
        assert program.wait(HANG_SECONDS)
        program.kill()
        assert (tmp_path / "chromium.log").read_text().strip() not in ("", str(folder))
    finally:
        folder.unlink()
