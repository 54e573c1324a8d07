"""The media store that the settings name: a folder, or S3-compatible storage."""

from bisnesctl.errors import ConfigError
from bisnesctl.settings import Settings
from services.media.base import MediaError, MediaMissing, MediaStore, MediaTooLarge, MediaUnavailable, Stored
from services.media.folder import FolderStore

__all__ = ["MediaError", "MediaMissing", "MediaStore", "MediaTooLarge", "MediaUnavailable", "Stored", "media_store"]


def media_store(settings: Settings) -> MediaStore:
    """The store of MEDIA_STORE; it connects to nothing yet.

    Raises `ConfigError` if the extra of an S3 storage is missing.
    """
    return _s3_store(settings) if settings.media_dir is None else FolderStore(settings.media_dir)


def _s3_store(settings: Settings) -> MediaStore:
    try:
        from services.media.s3 import S3Store
    except ModuleNotFoundError as error:
        if error.name not in ("boto3", "botocore"):
            raise
        raise ConfigError("MEDIA_STORE is an S3 storage, which needs boto3: pip install 'bisnesctl[s3]'") from None
    return S3Store(settings)
