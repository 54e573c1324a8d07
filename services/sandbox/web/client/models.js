/** The collections of chats and messages, the state of the connection, and the owner of the account. */

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

  /** The attributes by which a reply quotes this message. */
  msgContextInfo() {
    const { id, type, body } = this;
    return { quotedStanzaID: id.id, quotedParticipant: this.sender, quotedMsg: { type, body } };
  }
}
Msg.prototype.proxyName = 'msg';

export class Chat extends Model {
  constructor(attributes) {
    super({ unreadCount: 0, t: 0, ...attributes });
    this.msgs = new Collection();
    this.presence = new Presence({ id: this.id });
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

export class Presence extends Model {
  constructor(attributes) {
    super({ hasData: false, isOnline: false, ...attributes });
    this.isGroup = this.id.isGroup();
    this.isUser = this.id.isUser();
    this.chatstate = new Model({ id: this.id, type: undefined });
    this.chatstates = new Collection();
  }

  async subscribe() {}
}

export class Contact extends Model {}
Contact.prototype.proxyName = 'contact';

export class Call extends Model {
  getState() {
    return 'ReceivedCall';
  }
}

export class MsgCollection extends Collection {}

export class ChatCollection extends Collection {
  /** The most recent chat first, as on the screen. */
  getModelsArray() {
    return super.getModelsArray().sort((one, other) => other.t - one.t);
  }
}

export class PresenceCollection extends Collection {
  find(id) {
    return Promise.resolve(chatWith(id).presence);
  }
}

export class ContactCollection extends Collection {}

/** Groups have a name and members. We are a member, but no administrator. */
export class GroupCollection extends Collection {
  onParentGroupChange() {}

  async find(id) {
    const participants = new Collection();
    Object.assign(participants, { iAmAdmin: () => false, iAmMember: () => true });
    return this.get(id) ?? this.add(new Model({ id: new Wid(id), subject: `Group ${new Wid(id).user}`, participants }));
  }
}

export class CallCollection extends Collection {
  processIncomingCall(call) {
    return this.setActiveCall(call);
  }

  setActiveCall(call) {
    this.activeCall = call;
    return call;
  }
}

/** The people who received, read and played a message: the simulator knows none. */
export class MsgInfoCollection extends Collection {
  async find(id) {
    const nobody = { delivery: [], read: [], played: [] };
    return { id, ...nobody, deliveryRemaining: 0, readRemaining: 0, playedRemaining: 0 };
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

/** The number that is linked. */
export const owner = { number: '', wid: undefined, lid: undefined };

/** Sets the owner. An empty number means that the device is not linked. */
export function setOwner({ number, lid }) {
  owner.number = number;
  owner.wid = number ? new Wid(`${number}@c.us`) : undefined;
  owner.lid = number ? new Wid(lid) : undefined;
}

/** The chat with a person or group. It is created if it does not exist. */
export function chatWith(id) {
  const wid = id instanceof Wid ? id : new Wid(id);
  const known = chats.get(wid);
  if (known) return known;
  const chat = chats.add(new Chat({ id: wid }));
  presences.add(chat.presence);
  return chat;
}
