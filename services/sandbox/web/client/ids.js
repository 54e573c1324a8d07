/** The ids of people, groups and messages. */

export class Wid {
  static isXWid() {}

  static isGroup(id) {
    return String(id).endsWith('@g.us');
  }

  static isStatusV3(id) {
    return String(id) === 'status@broadcast';
  }

  constructor(serialized) {
    const [user, server] = String(serialized).split('@');
    this.user = user;
    this.server = server || 'c.us';
    this._serialized = `${this.user}@${this.server}`;
  }

  toString() {
    return this._serialized;
  }

  toJid() {
    return this._serialized;
  }

  equals(other) {
    return String(other) === this._serialized;
  }

  isGroup() {
    return this.server === 'g.us';
  }

  isLid() {
    return this.server === 'lid';
  }

  isUser() {
    return this.server === 'c.us' || this.isLid();
  }

  isBroadcast() {
    return this.server === 'broadcast';
  }

  isStatusV3() {
    return this._serialized === 'status@broadcast';
  }

  isNewsletter() {
    return this.server === 'newsletter';
  }

  isBot() {
    return false;
  }

  isPSA() {
    return false;
  }
}

export class MsgKey {
  constructor(parts) {
    if (!parts) throw new Error('MsgKey error: obj is null/undefined');
    this.fromMe = 'fromMe' in parts ? parts.fromMe : parts.selfDir === 'out';
    this.remote = parts.remote || (this.fromMe ? parts.to : parts.from);
    this.id = parts.id;
    this.participant = parts.participant;
    const ends = this.participant ? [this.participant] : [];
    this._serialized = [this.fromMe, this.remote, this.id, ...ends].join('_');
  }

  static fromString(serialized) {
    const [fromMe, remote, id, participant] = serialized.split('_');
    const author = participant && new Wid(participant);
    return new MsgKey({ fromMe: fromMe === 'true', remote: new Wid(remote), id, participant: author });
  }

  static newId() {
    return `3EB0${hex(crypto.getRandomValues(new Uint8Array(9))).toUpperCase()}`;
  }

  toString() {
    return this._serialized;
  }

  equals(other) {
    return String(other) === this._serialized;
  }
}

export function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function unixTime() {
  return Math.floor(Date.now() / 1000);
}
