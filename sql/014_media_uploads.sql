-- Files whose message was never accepted are found and removed, and files from before the quotas count.

-- The files that the API stored for messages that it was about to accept. Retention looks a day later whether the message
-- is there, and removes the row; the file as well if the process died in between and no other message has it.
CREATE TABLE IF NOT EXISTS media_upload (
    message_id uuid        PRIMARY KEY,
    key        text        NOT NULL,
    since      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS media_upload_since ON media_upload (since);

-- Only files of our own store have such keys.
INSERT INTO media_file (key, company_id, bytes, uses)
SELECT key, min(company_id), max(CASE jsonb_typeof(bytes) WHEN 'number' THEN bytes::bigint ELSE 0 END), count(*)
FROM (
    SELECT message_id AS id, company_id, payload #>> '{media,key}' AS key, payload #> '{media,size}' AS bytes
    FROM outbox WHERE payload -> 'media' ? 'key'
    UNION
    SELECT id, company_id, media_metadata ->> 'key', media_metadata -> 'size' FROM messages WHERE media_metadata ? 'key'
) m
WHERE key ~ '^[A-Za-z0-9_=~-]{1,200}/[0-9]{4}-[0-9]{2}/[0-9a-f]{64}\.[a-z0-9]{1,5}$'
GROUP BY key
ON CONFLICT DO NOTHING;
