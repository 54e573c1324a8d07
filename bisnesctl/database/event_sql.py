"""SQL that builds the events of customers, for the services and for the tool. Each reads one row `w`."""

#: Now, in seconds since the epoch.
NOW = "extract(epoch FROM now())"


def envelope(name: str, payload: str, row: str = "w") -> str:
    """SQL of one event for `raise_events`, from a row with company_id, phone_index and chat_id."""
    return (
        f"jsonb_build_object('company', {row}.company_id, 'session', {row}.company_id || '-' || {row}.phone_index,"
        f" 'event', '{name}', 'chat', {row}.chat_id, 'payload', {payload})"
    )


def ack_event(status: str, at: str, code: str, error: str, more: str = "'{}'") -> str:
    """SQL of the event for the new status of a message, a row of the outbox; `at`: SQL of seconds since the epoch."""
    return envelope(
        "message.ack",
        f"""jsonb_build_object('id', w.message_id, 'providerId', w.provider_id, 'chatId', w.chat_id,
            'status', {status}, 'ack', CASE {status}::text WHEN 'failed' THEN -1 WHEN 'sent' THEN 1
                WHEN 'delivered' THEN 2 WHEN 'read' THEN 3 ELSE 0 END,
            'ackName', CASE {status}::text WHEN 'failed' THEN 'ERROR' WHEN 'sent' THEN 'SERVER'
                WHEN 'delivered' THEN 'DEVICE' WHEN 'read' THEN 'READ' ELSE 'PENDING' END,
            'requestId', w.request_id, 'timestamp', floor({at}),
            'error', CASE WHEN {status}::text IN ('failed', 'unknown')
                THEN jsonb_build_object('code', {code}, 'reason', {error}) END) || {more}::jsonb""",
    )
