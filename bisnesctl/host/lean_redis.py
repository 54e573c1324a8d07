"""The Redis client without its parts for coroutines and clusters, which take 4 MB of memory. Import it from here."""

from bisnesctl.host.lean_imports import without

with without("asyncio", "redis.asyncio", "redis.cluster", "redis.sentinel", "redis.keyspace_notifications"):
    import redis
    import redis.backoff
    import redis.retry

__all__ = ["redis"]
