"""The quotas that the API enforces: requests per second, waiting messages, idempotency keys, calls of webhooks, and
wrong keys of one client address.
"""

import math
import time
from collections.abc import Hashable

from bisnesctl.database.quotas import Quota
from bisnesctl.settings import Settings
from services.database.connection import Database, query_value
from services.http_server.asgi import network_of_address
from services.http_server.error_codes import RETRY_LATER_SECONDS, RETRY_SOON_SECONDS, ErrorCode, retry_after
from services.http_server.errors import ApiError
from services.runtime.account_cache import AccountCache
from services.runtime.quotas import Quotas

#: Names whose rates are counted at a time; the fullest buckets, which allow everything, are forgotten first.
MAX_NAMES = 10_000

_KNOWN_KEY = "SELECT 1 FROM idempotency_keys WHERE company_id = %s AND key = %s"


class Rates:
    """Token buckets by name.

    Safe for threads: a bucket that two threads change at once is off by one at most.
    """

    def __init__(self) -> None:
        self._buckets: dict[Hashable, tuple[float, float]] = {}  # tokens, and when they were counted

    def take(self, name: Hashable, per_second: float, burst: float) -> float:
        """Do one thing; returns 0 if the rate allows it, otherwise the seconds after which it will.

        `burst`: how many are allowed at once after a pause.
        """
        if burst <= 0:
            return 3600.0
        tokens = self._tokens(name, per_second, burst)
        if tokens < 1.0:
            return (1.0 - tokens) / per_second
        self._buckets[name] = tokens - 1.0, time.monotonic()
        return 0.0

    def wait(self, name: Hashable, per_second: float, burst: float) -> float:
        """The seconds after which `take` allows one more; 0: now. Counts nothing."""
        tokens = self._tokens(name, per_second, burst)
        return max(0.0, (1.0 - tokens) / per_second)

    def _tokens(self, name: Hashable, per_second: float, burst: float) -> float:
        now = time.monotonic()
        found = self._buckets.get(name)
        if found is None:
            if len(self._buckets) >= MAX_NAMES:
                self._forget_half()
            return max(burst, 1.0)
        return min(max(burst, 1.0), found[0] + (now - found[1]) * per_second)

    def _forget_half(self) -> None:
        """Forget the names that have been silent longest."""
        by_age = sorted(self._buckets.copy().items(), key=lambda each: each[1][1])
        self._buckets = dict(by_age[len(by_age) // 2 :])


class ApiQuotas:
    """Refuses what exceeds a quota, with the reason and, where waiting helps, with `Retry-After`."""

    def __init__(self, settings: Settings, database: Database, accounts: AccountCache) -> None:
        self._database, self._accounts = database, accounts
        self._instances = settings.api_instances
        self._wrong_per_minute = settings.wrong_keys_per_minute
        self._rates = Rates()
        self.quotas = Quotas(settings, database, accounts, Quota.WAITING_MESSAGES, Quota.IDEMPOTENCY_KEYS)

    def stop(self) -> None:
        """Measure nothing more."""
        self.quotas.stop()

    def take_request(self, company: str | None) -> None:
        """Count a request of a company's key; None: an operator's, which has no limit. Raises `ApiError` (429)."""
        if company is None:
            return
        limit = self.quotas.limit(company, Quota.REQUESTS_PER_SECOND)
        if limit is not None:
            self._take(company, Quota.REQUESTS_PER_SECOND, limit, limit / self._instances, "requests per second")

    def take_webhook_call(self, company: str) -> None:
        """Count a test or a replay of a webhook. Raises `ApiError` (429)."""
        quota = Quota.WEBHOOK_CALLS_PER_MINUTE
        limit = self.quotas.limit(company, quota)
        if limit is not None:
            rate = limit / 60 / self._instances
            self._take(company, quota, limit, rate, "tests and replays of webhooks per minute")

    def _take(self, company: str, quota: Quota, limit: int, per_second: float, what: str) -> None:
        seconds = self._rates.take((company, quota), per_second, limit)
        if seconds:
            message = f"company {company} may make {limit} {what}"
            raise ApiError(ErrorCode.RATE_LIMITED, message, retry_after(math.ceil(seconds)))

    def has_room(self, company: str, has_key: bool) -> bool:
        """Whether a message is within the quotas. `has_key`: whether it has an idempotency key."""
        return self.quotas.has_room(company, Quota.WAITING_MESSAGES) and not (
            has_key and not self.quotas.has_room(company, Quota.IDEMPOTENCY_KEYS)
        )

    def check_message(self, company: str, idempotency_key: str | None) -> None:
        """Check the quotas of a message. A repeated request is not refused: its message was counted.

        Asks the database only if a quota is used up. Raises `ApiError` (429), `DatabaseUnavailable`.
        """
        if self.has_room(company, idempotency_key is not None) or self._is_repeated(company, idempotency_key):
            return
        if not self.quotas.has_room(company, Quota.WAITING_MESSAGES):
            limit = self.quotas.limit(company, Quota.WAITING_MESSAGES)
            message = f"company {company} may have {limit} waiting messages; send more when some have left"
            raise ApiError(ErrorCode.BACKLOG_FULL, message, retry_after(RETRY_SOON_SECONDS))
        limit = self.quotas.limit(company, Quota.IDEMPOTENCY_KEYS)
        message = f"company {company} may have {limit} idempotency keys, which are remembered for 7 days"
        raise ApiError(ErrorCode.TOO_MANY_IDEMPOTENCY_KEYS, message, retry_after(RETRY_LATER_SECONDS))

    def count_message(self, company: str, has_key: bool) -> None:
        """Count a message that is about to be accepted."""
        self.quotas.add(company, Quota.WAITING_MESSAGES)
        if has_key:
            self.quotas.add(company, Quota.IDEMPOTENCY_KEYS)

    def _is_repeated(self, company: str, idempotency_key: str | None) -> bool:
        if idempotency_key is None:
            return False
        with self._database.connection() as connection:
            return query_value(connection, _KNOWN_KEY, (company, idempotency_key)) is not None

    # Wrong keys

    def check_address(self, address: str, digest: bytes) -> None:
        """Refuse a client address with too many wrong keys, unless this key is valid. Raises `ApiError` (429)."""
        seconds = self._rates.wait(network_of_address(address), self._wrong_per_minute / 60, self._wrong_per_minute)
        if seconds and not self._accounts.is_valid(digest):
            message = "too many wrong API keys came from this address; try again later"
            raise ApiError(ErrorCode.TOO_MANY_WRONG_KEYS, message, retry_after(math.ceil(seconds)))

    def note_wrong_key(self, address: str) -> None:
        """Count a wrong key of a client address."""
        self._rates.take(network_of_address(address), self._wrong_per_minute / 60, self._wrong_per_minute)
