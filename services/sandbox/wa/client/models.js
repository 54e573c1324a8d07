/** The stores of chats, messages and the state of the connection, and who owns the account. */

import { Collection, Emitter, Model } from './emitter.js';
import { Wid } from './ids.js';

export class Msg extends Model {
  constructor(attributes) {
    super(attributes);
    this.senderObj = { isMe: Boolean(this.id?.fromMe) };
    this.isNewMsg ??= true;
  }

  get isSentByMe() {
    return this.id.fromMe;
  }

  get sender() {
    return this.author ?? this.from;
  }

  msgContextInfo() {
    return { quotedStanzaID: this.id.id, quotedParticipant: this.sender, quotedMsg: { type: this.type, body: this.body } };
  }
}
Msg.prototype.proxyName = 'msg';

export class Chat extends Model {
  constructor(attributes) {
    super({ unreadCount: 0, t: 0, ...attributes });
    this.msgs = new Collection();
    this.presence = new Model({ id: this.id, hasData: true, chatstate: new Model({ type: 'available' }), subscribe: async () => {} });
  }

  get hasUnread() {
    return this.unreadCount !== 0;
  }

  get isGroup() {
    return this.id.isGroup();
  }

  get isUser() {
    return this.id.isUser();
  }
}
Chat.prototype.proxyName = 'chat';

export class Contact extends Model {}
Contact.prototype.proxyName = 'contact';

export class MsgCollection extends Collection {}
export class ChatCollection extends Collection {}
export class PresenceCollection extends Collection {}
export class ContactCollection extends Collection {}
export class GroupCollection extends Collection {}
export class CallCollection extends Collection {
  processIncomingCall(call) {
    return call;
  }

  setActiveCall(call) {
    return call;
  }
}

export const messages = new MsgCollection();
export const chats = new ChatCollection();
export const presences = new PresenceCollection();
export const contacts = new ContactCollection();
export const groups = new GroupCollection();
export const calls = new CallCollection();

export const connection = new Model({ ref: null, connected: false, platform: 'android' });
export const socket = new Model({ state: 'OPENING' });
export const stream = new Model({ mode: undefined, info: 'OPENING', needsUpdate: false, available: false });
export const network = new Model({ online: true });
export const commands = new Emitter();
export const backend = new Emitter();

network.checkOnline = () => network.online;
stream.markAvailable = () => stream.set('available', true);
stream.markUnavailable = () => stream.set('available', false);
commands.isMainLoaded = false;

/** Who is linked: set once, at the link. */
export const owner = { number: null, wid: undefined, lid: undefined };

export function own(state) {
  owner.number = state.number;
  owner.wid = state.number ? new Wid(`${state.number}@c.us`) : undefined;
  owner.lid = state.number ? new Wid(state.lid) : undefined;
}

/** The chat with someone, made when there is none yet. */
export function chatWith(id) {
  const wid = id instanceof Wid ? id : new Wid(id);
  return chats.get(wid) ?? chats.add(new Chat({ id: wid }));
}
