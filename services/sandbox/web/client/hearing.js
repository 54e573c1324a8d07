/** What the server tells, by its kind. */

import { MsgKey, Wid } from './ids.js';
import { backend, Call, calls, chatWith, presences } from './models.js';
import { hear } from './messages.js';
import { misbehaviour } from './misbehaviour.js';
import { reactions, receipts } from './modules.js';

const ACK_STRINGS = { 2: 'delivery', 3: 'read', 4: 'played' };

const told = {
  message: ({ message }) => hear(message),
  ack: hearAck,
  reaction: hearReaction,
  call: hearCall,
  seen: ({ chat }) => chatWith(chat).set('unreadCount', 0),
  presence: hearPresence,
  backend: ({ event }) => backend.trigger(event, {}),
  misbehave: ({ how }) => misbehaviour[how.kind](how),
};

/** Takes one piece of news. One that cannot be understood holds up no other. */
export async function hearing(news) {
  try {
    await told[news.kind](news);
  } catch (error) {
    console.error(news, error);
  }
}

function hearAck({ key, ack }) {
  const { id, remote, participant } = MsgKey.fromString(key);
  const receipt = { ack, ackString: ACK_STRINGS[ack], from: remote, recipient: null, participant, externalIds: [id] };
  if (remote.isGroup()) receipts.group.handleGroupSimpleReceipt(receipt);
  else receipts.chat.handleChatSimpleReceipt(receipt);
}

function hearReaction({ key, about, text, sender }) {
  reactions.addOrUpdateReactionsModelCollection([{
    id: key, reactionParentKey: about, reactionText: text, read: false, from: new Wid(sender), orphan: 0,
    t: Date.now() + 50, // wa-js passes on only what is not older than the moment in which it comes
  }]);
}

function hearCall({ id, chat, is_video: isVideo, is_group: isGroup, t }) {
  calls.setActiveCall(new Call({ id, peerJid: new Wid(chat), isGroup, isVideo, offerTime: t, outgoing: false }));
}

function hearPresence({ chat, state }) {
  const { presence } = chatWith(chat);
  Object.assign(presence, { hasData: true, isOnline: state !== 'unavailable' });
  presence.chatstate.set('type', state);
  presences.trigger('change:chatstate.type', presence.chatstate);
}
