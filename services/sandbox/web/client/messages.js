/** Messages as the page has them: those that are at the server, those that it tells of, and those on their way to it. */

import { MsgKey, unixTime, Wid } from './ids.js';
import { chats, chatWith, contacts, Contact, messages, Msg, owner } from './models.js';
import { learn } from './lids.js';
import { mediaOf } from './media.js';

/** What is about another message, and shows there. */
const ABOUT_OTHERS = { revoke: 'revoke', edit: 'message_edit' };

function wid(id) {
  return id ? new Wid(id) : undefined;
}

/** What it answers: the key of a message, or the part that is the message's own. */
function quotedOf({ quoted, chat }) {
  if (!quoted) return {};
  if (!quoted.includes('_')) return { quotedStanzaID: quoted };
  const { id, fromMe, participant } = MsgKey.fromString(quoted);
  return { quotedStanzaID: id, quotedParticipant: fromMe ? owner.wid : (participant ?? wid(chat)) };
}

/** The attributes of a message of the server. */
function attributes(told, isNewMsg) {
  const chat = wid(told.chat);
  const key = MsgKey.fromString(told.key);
  const mine = key.fromMe;
  return {
    ...told.extra,
    id: key, from: mine ? owner.wid : chat, to: mine ? chat : owner.wid, author: wid(told.author),
    type: told.type, body: told.body, caption: told.caption ?? undefined, t: told.t, ack: told.ack, isNewMsg,
    notifyName: told.name ?? undefined, mentionedJidList: (told.mentions ?? []).map(wid), ...quotedOf(told),
    ...mediaOf(told.media),
    ...(told.edited ? { latestEditMsgKey: key } : {}),
  };
}

function remember(model) {
  const chat = chatWith(model.id.remote);
  messages.add(model);
  chat.msgs.add(model);
  chat.lastReceivedKey = model.id;
  chat.set('t', Math.max(chat.t, model.t));
  return model;
}

/** Shows what was there before the page was loaded; nobody is told that it is new. */
export function restore(told) {
  for (const each of told.messages) {
    knowName(each);
    remember(new Msg(attributes(each, false)));
  }
  for (const each of told.chats) chatWith(each.chat).set('unreadCount', each.unread);
}

function knowName(told) {
  if (told.key.startsWith('true_')) return;
  const id = wid(told.author ?? told.chat);
  if (id.isLid()) learn(id, told.pn);
  if (!contacts.get(id)) contacts.add(new Contact({ id, name: undefined, pushname: told.name, type: 'in' }));
}

messages.processMultipleMessages = async (chat, arrived) => {
  for (const each of arrived) {
    if (each.type === 'protocol') apply(each);
    else receive(each);
  }
};

function receive(arrived) {
  const known = messages.get(arrived.id);
  if (known) {
    known.set('ack', Math.max(known.ack, arrived.ack));
    return;
  }
  const model = remember(new Msg(arrived));
  if (!model.id.fromMe) {
    const chat = chatWith(model.id.remote);
    chat.set('unreadCount', chat.unreadCount + 1);
  }
}

function apply(protocol) {
  const about = messages.get(protocol.protocolMessageKey);
  if (!about) return;
  if (protocol.id.equals(about.latestEditMsgKey)) return;
  if (protocol.subtype === 'message_edit') {
    about.body = protocol.body;
    if (about.caption !== undefined) about.caption = protocol.body;
    about.set('latestEditMsgKey', protocol.id);
  } else {
    about.body = undefined;
    about.set('type', 'revoked');
  }
}

/** Takes what the server tells: a message, or what changes one. */
export function hear(news) {
  knowName(news);
  const chat = chatWith(news.chat);
  const subtype = ABOUT_OTHERS[news.type];
  const arrived = attributes(news, true);
  if (!subtype) return messages.processMultipleMessages(chat.id, [arrived]);
  const about = { type: 'protocol', subtype, protocolMessageKey: MsgKey.fromString(news.about) };
  return messages.processMultipleMessages(chat.id, [{ ...arrived, ...about }]);
}

/** Puts a message of our own into its chat, before it goes out. */
export function show(raw, more = {}) {
  return messages.get(raw.id) ?? remember(new Msg({ ...raw, ack: 0, t: raw.t ?? unixTime(), isNewMsg: true, ...more }));
}

export function forget(list) {
  for (const each of list) {
    chats.get(each.id.remote)?.msgs.remove(each);
    messages.remove(each);
  }
}
