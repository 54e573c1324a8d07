-- Ids of numbers and accounts route what comes in and spread holds, so those that are stored were proved.

-- WhatsApp Web numbers have none. 360dialog numbers may have ids that whoever linked them merely named. If another
-- company has the same number or account, they are emptied: the next check, which is due now, stores what 360dialog
-- tells, and until then its webhooks find the number by their own secret. All others stay for the old server, which may
-- go on with this database, and are corrected by that check.
UPDATE phone_configs c SET meta_phone_number_id = NULL, meta_waba_id = NULL
WHERE (meta_phone_number_id IS NOT NULL OR meta_waba_id IS NOT NULL) AND (
    process_name = 'wwebjs'
    OR connection_type = '360dialog' AND EXISTS (
        SELECT FROM phone_configs o WHERE o.company_id <> c.company_id
            AND (o.meta_phone_number_id = c.meta_phone_number_id OR o.meta_waba_id = c.meta_waba_id)));
UPDATE bot_check SET due = now() FROM phone_configs c WHERE c.id = bot_id AND c.process_name = 'meta';

-- A WhatsApp Web session sends from the number to which it was linked first, and from no other unless somebody says so.
ALTER TABLE wa_session ADD COLUMN IF NOT EXISTS bound_number text;
UPDATE wa_session SET bound_number = COALESCE(own_number, caught_up_for) WHERE bound_number IS NULL;
