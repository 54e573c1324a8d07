"""A disk that never answers delays nothing else, and is named."""

import threading

import pytest

from bisnesctl.host import disk, volumes
from bisnesctl.host.bounded_call import BoundedCall
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS


@pytest.fixture
def silence():
    """Something that never answers, until the end of the test."""
    ended = threading.Event()
    yield lambda *_: ended.wait(HANG_SECONDS)
    ended.set()


def test_a_folder_whose_disk_does_not_answer_is_named_and_the_others_are_looked_at(tmp_path, monkeypatch, silence):
    media = tmp_path / "media"
    settings = settings_in(tmp_path, MEDIA_STORE=str(media))
    settings.run_dir.mkdir(parents=True)
    existing = disk.existing
    monkeypatch.setattr(disk, "existing", lambda path: silence() if path == media else existing(path))
    monkeypatch.setattr(volumes, "PLACE_TIMEOUT_SECONDS", 0.2)
    found = {each.mount: each for each in volumes.look(settings)}
    assert found.pop(str(media)).trouble.reason == "it did not answer within 0.2 s (media)"
    assert found
    assert all(each.free for each in found.values())


def test_a_call_gives_its_result_or_its_error(silence):
    assert BoundedCall(lambda: 7).within(HANG_SECONDS) == 7
    with pytest.raises(ZeroDivisionError):
        BoundedCall(lambda: 1 / 0).within(HANG_SECONDS)
    with pytest.raises(TimeoutError):
        BoundedCall(silence).within(0)


def test_a_call_that_hangs_does_not_delay_the_end_of_the_program(silence):
    BoundedCall(silence, "hangs")
    assert all(each.daemon for each in threading.enumerate() if each.name == "hangs")
