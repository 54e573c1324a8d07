"""The media store that the settings name: a folder, or S3-compatible storage."""

from bisnesctl.settings import Settings
from services.media.base import MediaError, MediaMissing, MediaStore, MediaTooLarge, MediaUnavailable, Stored
from services.media.folder import FolderStore

__all__ = ["MediaError", "MediaMissing", "MediaStore", "MediaTooLarge", "MediaUnavailable", "Stored", "media_store"]


def media_store(settings: Settings) -> MediaStore:
    """The store of MEDIA_STORE; it connects to nothing yet.

    A relative folder is below that of `.env`; without any it is `media` in BISNES_HOME.
    """
    if not settings.media_store:
        return FolderStore(settings.home / "media")
    return FolderStore((settings.env_file.parent / settings.media_store).absolute())
