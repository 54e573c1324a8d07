/** Files. Outgoing ones are uploaded before their message is sent, incoming ones are downloaded on request. */

import { server } from './server.js';

/** WhatsApp's wrapper around the bytes of a file. */
export class OpaqueData {
  #blob;
  #type;

  constructor(blob, type) {
    this.#blob = blob;
    this.#type = type;
  }

  static async createFromData(data, type) {
    return new OpaqueData(data instanceof Blob ? data : new Blob([data], { type }), type);
  }

  type() {
    return this.#type;
  }

  size() {
    return this.#blob.size;
  }

  forceToBlob() {
    return this.#blob;
  }
}

/** The media attributes of a message with a file. */
export function mediaOf(file) {
  if (!file) return {};
  const { mimetype, filename, size, hash: filehash } = file;
  const facts = { mimetype, filename: filename ?? undefined, size, filehash };
  return { ...facts, mediaData: { ...facts, mediaId: file.id, mediaStage: 'NONE' }, mediaObject: {} };
}

/** Fetches the bytes of a message's file. */
export async function download(message) {
  const { mediaData } = message;
  if (!mediaData.mediaId) return;
  const answer = await fetch(server.mediaUrl(mediaData.mediaId), { cache: 'no-store' });
  if (!answer.ok) throw new Error('the file no longer exists');
  mediaData.mediaBlob = await OpaqueData.createFromData(await answer.blob(), mediaData.mimetype);
  mediaData.mediaStage = 'RESOLVED';
}

const KINDS = { image: 'image', video: 'video', audio: 'audio' };

function kindOf(type, { asSticker, asDocument, isPtt }) {
  if (asSticker) return 'sticker';
  if (asDocument) return 'document';
  if (isPtt) return 'ptt';
  return KINDS[type.split('/')[0]] ?? 'document';
}

/** Prepares a file as WhatsApp does. `send(chat, raw, more, file)` sends its message. */
export function prepare(data, options, send) {
  const mediaData = { type: kindOf(data.type(), options), mimetype: data.type(), size: data.size(), mediaBlob: data };
  return {
    _mediaData: mediaData,
    waitForPrep: async () => {},
    async sendToChat({ chat, options: { productMsgOptions: raw, caption, isViewOnce } }) {
      await Promise.resolve(); // wa-js starts to wait for the message in the chat after this call has returned
      const facts = { type: mediaData.type, mimetype: mediaData.mimetype, size: mediaData.size };
      const more = { ...facts, caption, isViewOnce, isGif: Boolean(options.asGif), mediaData, mediaObject: {} };
      return send(chat, raw, more, data.forceToBlob());
    },
  };
}
