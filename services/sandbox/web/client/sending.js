/** Outgoing messages: kept in the profile until the server has them, and resent after a lost network or a reload. */

import { unixTime } from './ids.js';
import { messages } from './models.js';
import { restore, show } from './messages.js';
import { Refused, server } from './server.js';
import { unsent } from './storage.js';

const OK = 'OK';
const FAILED = 'ERROR_UNKNOWN';

/** One of our own messages as the server gets it. */
function described(message, file) {
  const { id, type, body, caption, t, quotedStanzaID, mentionedJidList, isViewOnce, isGif } = message;
  return {
    key: String(id), chat: String(id.remote), type, body: body ?? null, caption: caption ?? null, t,
    quoted: quotedStanzaID ?? null, author: id.participant ? String(id.participant) : null, mentions: (mentionedJidList ?? []).map(String),
    extra: { isViewOnce, isGif }, media: file ?? null,
  };
}

const lastTurns = new Map();
let attempts = 0;

/** Runs a function after all earlier ones of the same chat, so that the order of the chat is kept. */
function inTurn(chat, run) {
  const turn = (lastTurns.get(chat) ?? Promise.resolve()).catch(() => {}).then(run);
  lastTurns.set(chat, turn);
  return turn;
}

/** Sends a message to the server. The answer is WhatsApp's acknowledgement. */
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
  await unsent.remove(entry.attempt);
  return { messageSendResult: result, t: unixTime() };
}

/** Waits until the server has accepted or refused the message. */
function acknowledged(message) {
  if (message?.ack !== 0) return undefined; // acknowledged, or deleted meanwhile
  return new Promise((resolve) => message.once('change:ack', resolve));
}

/** A new id of an attempt. Ids sort in the order of the attempts. */
function attemptId() {
  attempts += 1;
  return `${Date.now()}-${String(attempts).padStart(6, '0')}-${crypto.randomUUID()}`;
}

async function enqueue(message, blob) {
  const { mimetype, filename = '' } = message;
  const file = blob && (await server.upload(blob, { mimetype, filename }));
  const entry = { attempt: attemptId(), ...described(message, file) };
  await unsent.add(entry);
  return entry;
}

/** Adds a message to its chat and sends it. Returns promises of the message in the chat and of the result. */
export function send(raw, more = {}, blob = undefined) {
  const message = show(raw, more);
  return [Promise.resolve(message), enqueue(message, blob).then(deliver)];
}

/** Shows the messages that an earlier page did not send. Returns a function that sends them. */
export async function resume() {
  const entries = await unsent.all();
  restore({ messages: entries.filter((entry) => !messages.get(entry.key)).map((entry) => ({ ...entry, ack: 0 })), chats: [] });
  return () => entries.forEach(deliver);
}
