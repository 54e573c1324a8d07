/** What we send: kept in the profile until the server has it, and sent again after a loss of the network or a reload. */

import { unixTime } from './ids.js';
import { messages } from './models.js';
import { hear, show } from './messages.js';
import { upload } from './media.js';
import { persist, Refused } from './server.js';
import { unsent } from './storage.js';

const OK = 'OK';
const FAILED = 'ERROR_UNKNOWN';

/** Our own message as the server gets it. */
function described(message, file) {
  const { id, type, body, caption, t, quotedStanzaID, mentionedJidList, isViewOnce, isGif } = message;
  return {
    key: String(id), chat: String(id.remote), type, body, caption, t, quoted: quotedStanzaID,
    author: id.participant && String(id.participant), mentions: (mentionedJidList ?? []).map(String),
    extra: { isViewOnce, isGif }, media: file ?? null,
  };
}

/** Hands a message to the server; the answer is WhatsApp's acknowledgement that it was sent. */
async function deliver(entry) {
  let result = OK;
  let ack = 1;
  try {
    ack = (await persist('send', entry)).ack;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    [result, ack] = [FAILED, -1];
  }
  await unsent.forget(entry.attempt);
  const message = messages.get(entry.key);
  if (message && message.ack < 1) message.set('ack', ack);
  return { messageSendResult: ack < 0 ? FAILED : result, t: unixTime() };
}

async function queue(message, blob) {
  const file = blob && (await upload(blob, message.mimetype, message.filename));
  const entry = { attempt: crypto.randomUUID(), ...described(message, file) };
  await unsent.keep(entry);
  return entry;
}

/** Adds a message to its chat and sends it: [the message once it is in the chat, what became of it]. */
export function send(raw, more = {}, blob = undefined) {
  const message = show(raw, more);
  return [Promise.resolve(message), queue(message, blob).then(deliver)];
}

/** Goes on with what an earlier page left. */
export async function resume() {
  const left = await unsent.all();
  for (const entry of left.sort((one, other) => one.t - other.t)) {
    if (!messages.get(entry.key)) hear({ ...entry, ack: 0, from_me: true });
    deliver(entry);
  }
}
