/** Files: those that go out are uploaded before their message is sent, those that came in are downloaded when asked for. */

import { server } from './server.js';

/** WhatsApp's holder of a file's bytes. */
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
  const about = { mimetype, filename: filename ?? undefined, size, filehash };
  return { ...about, mediaData: { ...about, mediaId: file.id, mediaStage: 'NONE' }, mediaObject: {} };
}

/** Fetches the bytes of a message's file. */
export async function download(message) {
  const { mediaData } = message;
  if (!mediaData.mediaId) return;
  const answer = await fetch(server.media(mediaData.mediaId), { cache: 'no-store' });
  if (!answer.ok) throw new Error('the file is not there any more');
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

/** What WhatsApp makes of a file before it sends it. `send(chat, raw, more, file)` takes it from there. */
export function prepare(data, options, send) {
  const mediaData = { type: kindOf(data.type(), options), mimetype: data.type(), size: data.size(), mediaBlob: data };
  return {
    _mediaData: mediaData,
    waitForPrep: async () => {},
    async sendToChat({ chat, options: { productMsgOptions: raw, caption, isViewOnce } }) {
      await Promise.resolve(); // wa-js begins to wait for the message in the chat once this call has returned
      const about = { type: mediaData.type, mimetype: mediaData.mimetype, size: mediaData.size };
      const more = { ...about, caption, isViewOnce, isGif: Boolean(options.asGif), mediaData, mediaObject: {} };
      return send(chat, raw, more, data.forceToBlob());
    },
  };
}
