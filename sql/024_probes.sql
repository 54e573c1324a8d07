-- Probes: messages to test chats, which a rollout sends to compare both sides. They are never counted among customers'.

ALTER TABLE outbox ADD COLUMN IF NOT EXISTS is_probe boolean NOT NULL DEFAULT false;
