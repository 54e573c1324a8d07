"""Media in S3-compatible storage; needs the extra `s3`."""

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from bisnesctl.errors import ConfigError
from bisnesctl.settings import Settings
from services.media.base import MediaMissing, MediaUnavailable, Stored, checked, on_disk, taken_in

#: Seconds to connect.
CONNECT_TIMEOUT_SECONDS = 5
#: Seconds for each answer.
READ_TIMEOUT_SECONDS = 60
#: Attempts of a call in all.
MAX_ATTEMPTS = 3
#: Bytes of an object that are read ahead.
_BUFFER = 1 << 18


class S3Store:
    """Keeps files as objects of one bucket, below a prefix."""

    def __init__(self, settings: Settings) -> None:
        """MEDIA_STORE is `s3://bucket/prefix`; without S3_ACCESS_KEY_ID the usual sources of AWS credentials count.

        Raises `ConfigError` if MEDIA_STORE names no bucket.
        """
        bucket, _, prefix = settings.media_store.removeprefix("s3://").partition("/")
        if not bucket:
            raise ConfigError("MEDIA_STORE: an S3 storage is written as s3://bucket/prefix")
        self._bucket, self._prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client = _client(settings)

    def put(
        self, company_id: str, stream: BinaryIO, mime_type: str, limit: int,
        reserve: Callable[[Stored], None] = lambda _: None,
    ) -> Stored:  # fmt: skip
        """See `MediaStore`."""
        with taken_in(company_id, stream, mime_type, limit) as (path, stored):
            reserve(stored)
            with path.open("rb") as file, _translated():
                self._client.put_object(**self._object(stored.key), Body=file, ContentType=mime_type)
        return stored

    def open(self, key: str) -> BinaryIO:
        """See `MediaStore`."""
        target = self._object(checked(key))
        with _translated():
            size = self._client.head_object(**target)["ContentLength"]
        return cast(BinaryIO, io.BufferedReader(_Object(self._client, target, size), _BUFFER))

    @contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        """See `MediaStore`."""
        with tempfile.NamedTemporaryFile(prefix="bisnesctl-media-") as copy:
            with self.open(key) as file, on_disk():
                shutil.copyfileobj(file, copy)
                copy.flush()
            yield Path(copy.name)

    def exists(self, key: str) -> bool:
        """See `MediaStore`."""
        try:
            with _translated():
                self._client.head_object(**self._object(checked(key)))
        except MediaMissing:
            return False
        return True

    def delete(self, key: str) -> None:
        """See `MediaStore`."""
        try:
            target = self._object(checked(key))
        except MediaMissing:
            return
        with _translated():
            self._client.delete_object(**target)

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}


def _client(settings: Settings) -> Any:
    # Not every storage supports addresses with the bucket in the host name, or the newer checksums.
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"total_max_attempts": MAX_ATTEMPTS, "mode": "standard"},
        s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    key, secret = settings.s3_access_key_id.get_secret_value(), settings.s3_secret_access_key.get_secret_value()
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=key or None,
        aws_secret_access_key=secret or None,
        config=config,
    )


class _Object(io.RawIOBase):
    """A seekable object: a read requests it from the current place on."""

    def __init__(self, client: Any, target: dict[str, str], size: int) -> None:
        self._client, self._target, self._size = client, target, size
        self._place = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence], 0)
        if place != self._place:
            self._close_body()
            self._place = place
        return place

    def readinto(self, buffer: Any) -> int:
        if self._place >= self._size:
            return 0
        with _translated():
            if self._body is None:
                self._body = self._client.get_object(**self._target, Range=f"bytes={self._place}-")["Body"]
            data: bytes = self._body.read(len(buffer))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._close_body()
        super().close()

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


@contextmanager
def _translated() -> Iterator[None]:
    """Translate the storage's errors."""
    try:
        yield
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404 and not _is_bucket(error):
            raise MediaMissing("there is no such media in the storage") from None
        raise MediaUnavailable(f"the S3 storage refuses: {error}") from error
    except BotoCoreError as error:
        raise MediaUnavailable(f"the S3 storage cannot be used: {error}") from error


def _is_bucket(error: ClientError) -> bool:
    return bool(error.response.get("Error", {}).get("Code") == "NoSuchBucket")
