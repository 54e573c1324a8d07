-- Pauses that companies made themselves: an operator's is not theirs to change or to end.

ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS paused_by_company boolean NOT NULL DEFAULT false;
