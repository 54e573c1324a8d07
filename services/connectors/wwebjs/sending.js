/** What sends, and what the page knows of a message's key: reconciling.py decides by it. Goes before bridge.js. */
(() => {
  if (window !== window.top || window.__waSending) return;

  /** The keys of the calls that send and have not come to their end. */
  const running = new Set();

  async function newKey(chatId) {
    return String(await WPP.chat.generateMessageID(await WPP.chat.find(chatId)));
  }

  async function under(key, send) {
    running.add(key);
    try {
      const { id, ack } = await send();
      return { id, ack };
    } finally {
      running.delete(key);
    }
  }

  function text(chatId, content, options) {
    return under(options.messageId, () => WPP.chat.sendTextMessage(chatId, content, options));
  }

  function file(chatId, content, options) {
    return under(options.messageId, () => WPP.chat.sendFileMessage(chatId, content, options));
  }

  /** The message, or null where its chat does not have it; fails where that cannot be told. */
  async function find(key) {
    const known = WPP.whatsapp.MsgStore.get(key);
    if (known) return known;
    await WPP.chat.find(WPP.whatsapp.MsgKey.fromString(key).remote);
    return WPP.chat.getMessageById(key).catch((error) => {
      if (error?.code === 'msg_not_found') return null;
      throw error;
    });
  }

  /** Whether a call was under way is asked first: one that ends meanwhile leaves its message behind. */
  async function sight(key) {
    const underWay = running.has(key);
    const message = await find(key);
    return { ack: message?.ack ?? null, running: underWay };
  }

  window.__waSending = { newKey, text, file, sight };
})();
