"""The names in `process_metrics` of what the evaluator of alerts stores there."""

#: Messages that wait, of a channel.
QUEUE_WAITING = "queue_waiting"
#: Seconds that the oldest message has waited that could be sent, of a channel.
QUEUE_OLDEST = "queue_oldest_seconds"
#: Milliseconds from the acceptance of a message to the answer of its provider, of a channel.
LATENCY_P50, LATENCY_P99 = "latency_p50_ms", "latency_p99_ms"
#: Messages of a process that failed since the last row; the row's metadata has the code of the error.
FAILURES = "failures"


def memory_of(instance: str) -> str:
    """Megabytes of an instance with its children; the row's metadata has its machine."""
    return f"memory_mb[{instance}]"


def cpu_of(instance: str) -> str:
    """Percent of a processor that an instance with its children uses; the row's metadata has its machine."""
    return f"cpu_percent[{instance}]"
