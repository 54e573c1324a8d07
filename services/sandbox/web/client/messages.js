/** Messages as the page has them: those of the server, and those that the page has yet to send. */

import { MsgKey, unixTime, Wid } from './ids.js';
import { chats, chatWith, contacts, Contact, messages, Msg, owner } from './models.js';
import { learnNumber } from './lids.js';
import { mediaOf } from './media.js';

/** The protocol subtypes of messages that change another message. */
const MODIFIERS = { revoke: 'revoke', edit: 'message_edit' };

function wid(id) {
  return id ? new Wid(id) : undefined;
}

/** The attributes of a reply: it quotes a message by its key, or by the last part of the key. */
function quotedAttributes({ quoted, chat }) {
  if (!quoted) return {};
  if (!quoted.includes('_')) return { quotedStanzaID: quoted };
  const { id, fromMe, participant } = MsgKey.fromString(quoted);
  return { quotedStanzaID: id, quotedParticipant: fromMe ? owner.wid : (participant ?? wid(chat)) };
}

/** The attributes of a message that the server sends. */
function attributes(message, isNewMsg) {
  const chat = wid(message.chat);
  const key = MsgKey.fromString(message.key);
  const { fromMe } = key;
  return {
    ...message.extra,
    id: key, from: fromMe ? owner.wid : chat, to: fromMe ? chat : owner.wid, author: wid(message.author),
    type: message.type, body: message.body, caption: message.caption ?? undefined, t: message.t, ack: message.ack, isNewMsg,
    notifyName: message.name ?? undefined, mentionedJidList: (message.mentions ?? []).map(wid), ...quotedAttributes(message),
    ...mediaOf(message.media),
    ...(message.edited ? { latestEditMsgKey: key } : {}),
  };
}

function addToChat(model) {
  const chat = chatWith(model.id.remote);
  messages.add(model);
  chat.msgs.add(model);
  chat.lastReceivedKey = model.id;
  chat.set('t', Math.max(chat.t, model.t));
  return model;
}

/** Adds messages that are older than the page. They do not count as new. */
export function restore(history) {
  for (const message of history.messages) {
    learnContact(message);
    addToChat(new Msg(attributes(message, false)));
  }
  for (const { chat, unread } of history.chats) chatWith(chat).set('unreadCount', unread);
}

function learnContact(message) {
  if (message.key.startsWith('true_')) return;
  const id = wid(message.author ?? message.chat);
  if (id.isLid()) learnNumber(id, message.pn);
  if (!contacts.get(id)) contacts.add(new Contact({ id, name: undefined, pushname: message.name, type: 'in' }));
}

messages.processMultipleMessages = async (chat, arrived) => {
  for (const each of arrived) {
    if (each.type === 'protocol') applyModifier(each);
    else addArrived(each);
  }
};

function addArrived(arrived) {
  const known = messages.get(arrived.id);
  if (known) {
    known.set('ack', Math.max(known.ack, arrived.ack));
    return;
  }
  const model = addToChat(new Msg(arrived));
  if (!model.id.fromMe) {
    const chat = chatWith(model.id.remote);
    chat.set('unreadCount', chat.unreadCount + 1);
  }
}

function applyModifier(protocol) {
  const target = messages.get(protocol.protocolMessageKey);
  if (!target) return;
  if (protocol.id.equals(target.latestEditMsgKey)) return;
  if (protocol.subtype === 'message_edit') {
    target.body = protocol.body;
    if (target.caption !== undefined) target.caption = protocol.body;
    target.set('latestEditMsgKey', protocol.id);
  } else {
    target.body = undefined;
    target.set('type', 'revoked');
  }
}

/** Receives a message of the server, or a change of one. */
export function receiveMessage(update) {
  learnContact(update);
  const chat = chatWith(update.chat);
  const subtype = MODIFIERS[update.type];
  const arrived = attributes(update, true);
  if (!subtype) return messages.processMultipleMessages(chat.id, [arrived]);
  const modifier = { type: 'protocol', subtype, protocolMessageKey: MsgKey.fromString(update.about) };
  return messages.processMultipleMessages(chat.id, [{ ...arrived, ...modifier }]);
}

/** Adds one of our own messages to its chat, before it is sent. */
export function show(raw, more = {}) {
  return messages.get(raw.id) ?? addToChat(new Msg({ ...raw, ack: 0, t: raw.t ?? unixTime(), isNewMsg: true, ...more }));
}

export function remove(list) {
  for (const message of list) {
    chats.get(message.id.remote)?.msgs.remove(message);
    messages.remove(message);
  }
}
