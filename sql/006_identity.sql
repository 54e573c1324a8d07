-- Ids of numbers and accounts route what comes in and spread holds, so those that are stored were proved.

-- WhatsApp Web numbers have none. Those of 360dialog numbers were taken from whoever linked them: the next check, which
-- is due now, stores what 360dialog tells. Until then their webhooks find them by their own secret.
UPDATE phone_configs SET meta_phone_number_id = NULL, meta_waba_id = NULL
WHERE (process_name = 'wwebjs' OR connection_type = '360dialog')
    AND (meta_phone_number_id IS NOT NULL OR meta_waba_id IS NOT NULL);
UPDATE bot_check SET due = now() FROM phone_configs c WHERE c.id = bot_id AND c.process_name = 'meta';

-- A WhatsApp Web session sends from the number to which it was linked first, and from no other unless somebody says so.
ALTER TABLE wa_session ADD COLUMN IF NOT EXISTS bound_number text;
UPDATE wa_session SET bound_number = COALESCE(own_number, caught_up_for) WHERE bound_number IS NULL;
