/** Applies the server's updates, by their kind. */

import { faults } from './faults.js';
import { MsgKey, Wid } from './ids.js';
import { receiveMessage } from './messages.js';
import { backend, Call, calls, chatWith, presences } from './models.js';
import { reactions, receipts } from './modules.js';

const ACK_STRINGS = { 2: 'delivery', 3: 'read', 4: 'played' };

const handlers = {
  message: ({ message }) => receiveMessage(message),
  ack: receiveAck,
  reaction: receiveReaction,
  call: receiveCall,
  seen: ({ chat }) => chatWith(chat).set('unreadCount', 0),
  presence: receivePresence,
  backend: ({ event }) => backend.trigger(event, {}),
  fault: ({ fault }) => faults[fault.kind](fault),
};

/** Applies one update. An update that fails does not hold up the others. */
export async function applyUpdate(update) {
  try {
    await handlers[update.kind](update);
  } catch (error) {
    console.error(update, error);
  }
}

function receiveAck({ key, ack }) {
  const { id, remote, participant } = MsgKey.fromString(key);
  const receipt = { ack, ackString: ACK_STRINGS[ack], from: remote, recipient: null, participant, externalIds: [id] };
  if (remote.isGroup()) receipts.group.handleGroupSimpleReceipt(receipt);
  else receipts.chat.handleChatSimpleReceipt(receipt);
}

function receiveReaction({ key, about, text, sender }) {
  reactions.addOrUpdateReactionsModelCollection([{
    id: key, reactionParentKey: about, reactionText: text, read: false, from: new Wid(sender), orphan: 0,
    t: Date.now() + 50, // wa-js ignores reactions that are older than the moment in which they arrive
  }]);
}

function receiveCall({ id, chat, is_video: isVideo, is_group: isGroup, t }) {
  calls.setActiveCall(new Call({ id, peerJid: new Wid(chat), isGroup, isVideo, offerTime: t, outgoing: false }));
}

function receivePresence({ chat, state }) {
  const { presence } = chatWith(chat);
  Object.assign(presence, { hasData: true, isOnline: state !== 'unavailable' });
  presence.chatstate.set('type', state);
  presences.trigger('change:chatstate.type', presence.chatstate);
}
