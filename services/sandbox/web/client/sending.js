/** What we send: kept in the profile until the server has it, and sent again after a loss of the network or a reload. */

import { unixTime } from './ids.js';
import { messages } from './models.js';
import { restore, show } from './messages.js';
import { Refused, server } from './server.js';
import { unsent } from './storage.js';

const OK = 'OK';
const FAILED = 'ERROR_UNKNOWN';

/** Our own message as the server gets it. */
function described(message, file) {
  const { id, type, body, caption, t, quotedStanzaID, mentionedJidList, isViewOnce, isGif } = message;
  return {
    key: String(id), chat: String(id.remote), type, body: body ?? null, caption: caption ?? null, t,
    quoted: quotedStanzaID ?? null, author: id.participant ? String(id.participant) : null, mentions: (mentionedJidList ?? []).map(String),
    extra: { isViewOnce, isGif }, media: file ?? null,
  };
}

const turns = new Map();
let attempts = 0;

/** Runs what concerns a chat after all that began before it, so that the order of the chat is kept. */
function inTurn(chat, run) {
  const turn = (turns.get(chat) ?? Promise.resolve()).catch(() => {}).then(run);
  turns.set(chat, turn);
  return turn;
}

/** Hands a message to the server; the answer is WhatsApp's acknowledgement that it was sent. */
async function deliver(entry) {
  let result = OK;
  let ack = 1;
  try {
    ack = (await inTurn(entry.chat, () => server.persist('send', entry))).ack;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    [result, ack] = [FAILED, -1];
  }
  const message = messages.get(entry.key);
  if (ack !== 0 && message?.ack === 0) message.set('ack', ack);
  await acknowledged(message);
  await unsent.forget(entry.attempt);
  return { messageSendResult: result, t: unixTime() };
}

/** Waits until the server has said that it has the message, or does not want it. */
function acknowledged(message) {
  if (message?.ack !== 0) return undefined; // or it was deleted meanwhile
  return new Promise((resolve) => message.once('change:ack', resolve));
}

/** Names an attempt to send, so that they are kept in their order. */
function attemptId() {
  attempts += 1;
  return `${Date.now()}-${String(attempts).padStart(6, '0')}-${crypto.randomUUID()}`;
}

async function queue(message, blob) {
  const { mimetype, filename = '' } = message;
  const file = blob && (await server.upload(blob, { mimetype, filename }));
  const entry = { attempt: attemptId(), ...described(message, file) };
  await unsent.keep(entry);
  return entry;
}

/** Adds a message to its chat and sends it: [the message once it is in the chat, what became of it]. */
export function send(raw, more = {}, blob = undefined) {
  const message = show(raw, more);
  return [Promise.resolve(message), queue(message, blob).then(deliver)];
}

/** Shows what an earlier page left to send; the function that it returns sends it. */
export async function resume() {
  const left = await unsent.all();
  restore({ messages: left.filter((entry) => !messages.get(entry.key)).map((entry) => ({ ...entry, ack: 0 })), chats: [] });
  return () => left.forEach(deliver);
}
