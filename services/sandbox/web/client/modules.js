/** The modules of WhatsApp Web that wa-js uses. It finds most of them by the names of their exports. */

import { Emitter } from './emitter.js';
import { MsgKey, unixTime, Wid } from './ids.js';
import { logoutReasons } from './account.js';
import { advSecret, encode, identityKey, noiseKey, PLATFORM } from './keys.js';
import { download, OpaqueData, prepare } from './media.js';
import { findAfter, findBefore, findByDirection, searchContext } from './history.js';
import { latestChat, lidOf, numberOf } from './lids.js';
import { receiveMessage, remove } from './messages.js';
import * as model from './models.js';
import { send } from './sending.js';
import { server } from './server.js';

const VERSION = '2.3000.1099999999';
const MAX_UPLOAD_BYTES = 100 << 20;

const { owner, chats, messages, commands } = model;

const states = ['OPENING', 'PAIRING', 'UNPAIRED', 'UNPAIRED_IDLE', 'CONNECTED', 'TIMEOUT', 'CONFLICT', 'UNLAUNCHED',
  'PROXYBLOCK', 'TOS_BLOCK', 'SMB_TOS_BLOCK', 'DEPRECATED_VERSION'];
const SOCKET_STATE = Object.fromEntries(states.map((state) => [state, state]));

function raiseAck({ ack, externalIds, from, participant }) {
  for (const id of externalIds) {
    const known = messages.get(new MsgKey({ fromMe: true, remote: from, id, participant }));
    if (known && known.ack < ack) known.set('ack', ack);
  }
}

/** wa-js wraps these functions, so they have to be called as members. */
export const receipts = {
  chat: { handleChatSimpleReceipt: raiseAck },
  group: { handleGroupSimpleReceipt: raiseAck },
  status: { handleStatusSimpleReceipt() {} },
};
export const reactions = { addOrUpdateReactionsModelCollection() {} };

model.Msg.prototype.downloadMedia = function downloadMedia() {
  return download(this);
};

commands.sendRevokeMsgs = async (chat, { list }) => {
  for (const message of list) await server.post('revoke', { about: String(message.id) });
};
commands.sendDeleteMsgs = async (chat, { list }) => {
  for (const message of list) await server.post('forget', { about: String(message.id) });
  remove(list);
};

async function edit(message, raw) {
  const answer = await server.post('edit', { about: String(message.id), body: raw.body });
  await receiveMessage(answer.message);
}

async function markSeen(chat) {
  chat.set('unreadCount', 0);
  await server.post('seen', { chat: String(chat.id) });
}

function typing(state) {
  return (chat) => server.post('typing', { chat: String(chat.id), state });
}

async function react(message, text) {
  await server.post('react', { about: String(message.id), text });
  return 'OK';
}

async function exists(wid) {
  const found = await server.post('exists', { chat: String(wid) });
  return found.exists ? { wid: new Wid(found.wid), biz: false, lid: found.lid && new Wid(found.lid) } : null;
}

function quotedMessage(message) {
  const chat = chats.get(message.id.remote);
  return chat?.msgs.findFirst((each) => each.id.id === message.quotedStanzaID) ?? null;
}

async function rejectCall() {
  const { id, peerJid } = model.calls.activeCall;
  await server.post('reject', { about: id, chat: String(peerJid) });
}

async function pairingCode(number) {
  return (await server.post('code', { number })).code;
}

const people = {
  WAWebWid: { default: Wid },
  WAWebWidFactory: {
    createWid: (id) => new Wid(id),
    isWidlike: (value) => value instanceof Wid,
    createWidFromWidLike: (value) => value,
    createUserWidOrThrow: (user, domain) => new Wid(String(user).includes('@') ? user : `${user}@${domain}`),
  },
  WAWebUserPrefsMeUser: {
    getMaybeMePnUser: () => owner.wid,
    getMaybeMeLidUser: () => owner.lid,
    getMeLidUserOrThrow: () => owner.lid,
    getMe: () => owner.wid,
  },
  WAWebContactModel: { Contact: model.Contact, default: model.Contact },
  WAWebContactCollection: { ContactCollectionImpl: model.ContactCollection, ContactCollection: model.contacts },
  WAWebBlocklistCollection: { BlocklistCollection: new model.ContactCollection() },
  WAWebQueryExistsJob: { queryPhoneExists() {}, queryWidExists: exists },
  WAWebApiContact: {
    getCurrentLid: lidOf, getPhoneNumber: numberOf, getAlternateUserWid: (wid) => lidOf(wid) ?? numberOf(wid),
  },
  WAWebLidPnCache: { lidPnCache: { getPhoneNumber: numberOf, getCurrentLid: lidOf } },
  WAWebContactPresenceBridge: { subscribePresence: async () => {} },
};

const link = {
  WAWebConnModel: { Conn: model.connection },
  WAWebSocketModel: { Socket: model.socket, SOCKET_STATE: undefined },
  WAWebSocketConstants: { SOCKET_STATE, SOCKET_STREAM: {}, WATCHED_SOCKET_STATE: {} },
  WAWebStreamModel: { Stream: model.stream },
  WAWebCmd: { Cmd: commands, CmdImpl: Emitter },
  WAWebNetworkStatus: { default: model.network },
  WAWebBackendEventBus: { BackendEventBus: model.backend, BackendEvent: {} },
  WAWebBuildConstants: {
    VERSION_STR: VERSION, SANITIZED_VERSION_STR: VERSION,
    VERSION_PRIMARY: '2', VERSION_SECONDARY: '3000', VERSION_TERTIARY: '1099999999',
  },
  WAWebAuth: { isLoggedIn: () => Boolean(owner.number), isRegistered: () => Boolean(owner.number) },
  WABase64: { encodeB64: encode, decodeB64: (text) => text },
  WAWebUserPrefsInfoStore: { waNoiseInfo: { get: async () => ({ staticKeyPair: { pubKey: noiseKey } }) } },
  WAWebSignalStoreApi: {
    waSignalStore: { getRegistrationInfo: async () => ({ identityKeyPair: { pubKey: identityKey } }) },
  },
  WAWebUserPrefsMultiDevice: { getADVSecretKey: () => advSecret, setADVSignedIdentity() {} },
  WAWebCompanionRegClientUtils: { DEVICE_PLATFORM: PLATFORM },
  WAWebLogoutReason: logoutReasons,
  WAWebLinkDeviceEvents: { WAWebLinkDeviceEvents: new Emitter() },
  WAWebAltDeviceLinkingApi: { initializeAltDeviceLinking: async () => {}, genLinkDeviceCodeForPhoneNumber: pairingCode },
  WAWebIsOfficialClient: { isOfficialClient: true },
};

const conversations = {
  WAWebMsgKey: { default: MsgKey },
  WAWebMsgModel: { Msg: model.Msg, default: model.Msg },
  WAWebMsgCollection: { MsgCollectionImpl: model.MsgCollection, MsgCollection: messages },
  WAWebChatModel: { Chat: model.Chat, default: model.Chat },
  WAWebChatCollection: { ChatCollectionImpl: model.ChatCollection, ChatCollection: chats },
  WAWebPresenceCollection: { PresenceCollection: model.presences },
  WAWebStatusCollection: { StatusCollection: new model.MsgCollection(), StatusV3Collection: new model.MsgCollection() },
  WAWebCallCollection: { CallCollectionImpl: model.CallCollection, default: model.calls },
  WAWebGroupMetadataCollection: { default: model.groups },
  WAWebMsgInfoCollection: { MsgInfoCollection: new model.MsgInfoCollection() },
  WAWebLoadMessages: { msgFindBefore: findBefore, msgFindAfter: findAfter, msgFindByDirection: findByDirection },
  WAWebSearchContext: { getSearchContext: searchContext },
  WAWebCallState: { CALL_STATES: { INCOMING_RING: 'INCOMING_RING', ReceivedCall: 'ReceivedCall' } },
  WAWebVoipStack: { getVoipStackInterface: async () => ({ rejectCall }) },
  WAWebFindChatAction: {
    findOrCreateLatestChat: async (wid) => ({ chat: { id: latestChat(wid).id }, created: false }),
  },
  WATimeUtils: { unixTime },
  WAWebEphemeral: { getEphemeralFields: () => ({}) },
  WAWebReadStatus: { markUnread() {}, sendSeen: ({ chat }) => markSeen(chat) },
  WAWebChatPresence: {
    markComposing: typing('composing'), markRecording: typing('recording'), markPaused: typing('available'),
  },
};

const sending = {
  WAWebAck: { ACK: { CLOCK: 0, SENT: 1, RECEIVED: 2, READ: 3, PLAYED: 4 }, ACK_STRING: {} },
  WAWebSendMsgResult: {
    SendMsgResult: { OK: 'OK', ERROR_UNKNOWN: 'ERROR_UNKNOWN', ERROR_NETWORK: 'ERROR_NETWORK', ERROR_UPLOAD: 'ERROR_UPLOAD' },
  },
  WAWebMsgType: { MSG_TYPE: { REVOKED: 'revoked', CALL_LOG: 'call_log' } },
  WAWebSendReactionMsgAction: { sendReactionToMsg: react },
  WAWebSendMsgChatAction: { addAndSendMsgToChat: async (chat, raw) => send(raw) },
  WAWebMsgEdit: { canEditMsg: (message) => message.id.fromMe, canEditCaption: () => false, addAndSendMessageEdit: edit },
  WAWebCanEdit: {},
  WAWebLinkify: { findFirstWebLink: () => null, findLink: () => null },
  WAWebHandleMsgReceipt: receipts.chat,
  WAWebHandleGroupReceipt: receipts.group,
  WAWebHandleStatusReceipt: receipts.status,
  WAWebReactionsMsgAction: reactions,
  WAWebMediaPrep: {
    uploadProductImage() {},
    MediaPrep: class {},
    prepRawMedia: (data, options) => prepare(data, options, (chat, raw, more, blob) => send(raw, more, blob)[1]),
  },
  WAWebMediaOpaqueData: { default: OpaqueData },
  WAWebMediaGatingUtils: { getUploadLimit: () => MAX_UPLOAD_BYTES },
  WAWebQuotedMsgUtils: { getQuotedMsgObj: quotedMessage },
  WAWebMsgReply: { canReplyMsg: () => true },
};

export const modules = { ...people, ...link, ...conversations, ...sending };
