"""The media store that the settings name: a folder, or S3-compatible storage."""

from bisnesctl.errors import ConfigError
from bisnesctl.settings import Settings
from services.database.connection import Database
from services.media.base import (
    MediaError,
    MediaMissing,
    MediaQuotaExceeded,
    MediaStore,
    MediaTooLarge,
    MediaUnavailable,
    Stored,
)
from services.media.counted import CountedStore
from services.media.folder import FolderStore
from services.runtime.quotas import Quotas

__all__ = [
    "CountedStore",
    "MediaError",
    "MediaMissing",
    "MediaQuotaExceeded",
    "MediaStore",
    "MediaTooLarge",
    "MediaUnavailable",
    "Stored",
    "counted_store",
    "media_store",
]


def media_store(settings: Settings) -> MediaStore:
    """The store of MEDIA_STORE; it connects to nothing yet.

    Raises `ConfigError` if the extra of an S3 storage is missing.
    """
    return _s3_store(settings) if settings.media_dir is None else FolderStore(settings.media_dir)


def counted_store(settings: Settings, database: Database, quotas: Quotas) -> CountedStore:
    """The same store for processes that store files: these count against the quotas. Raises like `media_store`."""
    return CountedStore(media_store(settings), database, quotas)


def _s3_store(settings: Settings) -> MediaStore:
    try:
        from services.media.s3 import S3Store
    except ModuleNotFoundError as error:
        if error.name not in ("boto3", "botocore"):
            raise
        raise ConfigError("MEDIA_STORE is an S3 storage, which needs boto3: pip install 'bisnesctl[s3]'") from None
    return S3Store(settings)
