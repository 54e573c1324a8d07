-- Pauses that companies made themselves: an operator's is not theirs to change or to end.

ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS paused_by_company boolean NOT NULL DEFAULT false;

-- Pauses that began before: they name the key.
UPDATE bot_pace p SET paused_by_company = true
FROM phone_configs c JOIN api_keys k ON k.company_id = c.company_id
WHERE c.id = p.bot_id AND p.paused_at IS NOT NULL AND p.paused_by = 'key ' || k.prefix || '…';
