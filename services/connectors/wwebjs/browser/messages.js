/** What the page tells of messages, as plain JSON: the shapes that incoming.py reads. Goes before bridge.js. */
(() => {
  if (window !== window.top || window.__waMessages) return;

  /** Types whose body is what a person wrote or chose; that of others is a thumbnail or a card. */
  const WORDS = ['chat', 'buttons_response', 'template_button_reply', 'list_response', 'interactive', 'hsm', 'list'];
  /** Attributes that are told as they are. */
  const PLAIN = [
    'type', 'subtype', 'caption', 't', 'ack', 'mimetype', 'filename', 'size', 'filehash', 'duration', 'isGif',
    'isViewOnce', 'isForwarded', 'lat', 'lng', 'loc', 'orderId', 'inviteCode', 'selectedButtonId', 'selectedId',
  ];
  /** Messages of a chat that are fetched at once, and of all chats that are told at once, at most. */
  const PAGE = 50;
  const MOST_OF_A_CHAT = 2000;

  const written = (id) => (id ? String(id) : undefined);

  function quoted(message) {
    if (!message.quotedStanzaID) return undefined;
    try {
      return written(message.quotedMsgId) ?? message.quotedStanzaID;
    } catch {
      return message.quotedStanzaID;
    }
  }

  /** The number that WhatsApp tells of a hidden one. */
  function phone(wid) {
    if (!wid?.isLid?.()) return undefined;
    return written(WPP.whatsapp.lidPnCache?.getPhoneNumber?.(wid));
  }

  function nameOf(wid) {
    const contact = wid && WPP.whatsapp.ContactStore.get(wid);
    return contact?.pushname || contact?.name || undefined;
  }

  function cards(message) {
    if (message.type === 'vcard') return [{ name: message.vcardFormattedName, vcard: message.body }];
    return message.vcardList?.map(({ displayName, vcard }) => ({ name: displayName, vcard }));
  }

  function title(message) {
    return message.pollName ?? message.listResponse?.title ?? message.orderTitle ?? message.inviteGrpName ?? message.title;
  }

  /** When it was last edited, in milliseconds; `true` where that is not known. */
  function edited({ latestEditMsgKey, latestEditSenderTimestampMs }) {
    return latestEditMsgKey ? (latestEditSenderTimestampMs ?? true) : undefined;
  }

  function about(message) {
    const chat = message.id.remote;
    const author = chat.isGroup?.() && !message.id.fromMe ? message.author : undefined;
    return {
      id: written(message.id), phone: phone(chat), author: written(author), authorPhone: phone(author),
      name: message.notifyName || nameOf(author ?? message.from),
      chatName: chat.isGroup?.() ? WPP.whatsapp.ChatStore.get(chat)?.name : undefined,
    };
  }

  /** A message. */
  function told(message) {
    const plain = Object.fromEntries(PLAIN.map((name) => [name, message[name] || undefined]));
    return {
      ...plain, ...about(message), ack: message.ack, quoted: quoted(message), title: title(message),
      vcards: cards(message), body: WORDS.includes(message.type) ? message.body : undefined, edited: edited(message),
      mentioned: message.mentionedJidList?.length ? message.mentionedJidList.map(String) : undefined,
      options: message.pollOptions?.map((each) => each.name), lat: message.lat, lng: message.lng,
    };
  }

  /** What is told of each event; the order of events is kept, since nothing here waits. */
  const events = {
    'chat.new_message': told,
    'chat.msg_ack_change': ({ ack, chat, sender, ids }) => (
      { ack, chat: written(chat), sender: written(sender), ids: ids.map(String) }
    ),
    'chat.msg_edited': ({ id, msg }) => ({ id, msg: told(msg) }),
    'chat.msg_revoke': ({ refId, type }) => ({ refId: written(refId), phone: phone(refId.remote), type }),
    'chat.new_reaction': ({ id, msgId, reactionText, sender, timestamp }) => ({
      id: written(id), msgId: written(msgId), text: reactionText, t: timestamp, sender: written(sender),
      phone: phone(msgId.remote), name: nameOf(sender),
    }),
    'call.incoming_call': ({ id, sender, isVideo, isGroup, offerTime }) => (
      { id, from: written(sender), isVideo, isGroup, t: offerTime, phone: phone(sender), name: nameOf(sender) }
    ),
  };

  async function ofChat(chat, since) {
    const found = new Map();
    let options = { count: PAGE };
    while (options && found.size < MOST_OF_A_CHAT) {
      const page = await WPP.chat.getMessages(chat.id, options);
      const fresh = page.filter((message) => !found.has(String(message.id)));
      for (const message of fresh) found.set(String(message.id), message);
      const oldest = fresh.length ? fresh.reduce((one, other) => (other.t < one.t ? other : one)) : undefined;
      options = oldest?.t >= since ? { count: PAGE, direction: 'before', id: String(oldest.id) } : undefined;
    }
    return [...found.values()].filter((message) => message.t >= since);
  }

  /** Those of all chats that are not older than `since` (seconds), the oldest first, so many at most. */
  async function recent(since, limit) {
    const found = [];
    for (const chat of WPP.whatsapp.ChatStore.getModelsArray()) {
      if (chat.t >= since) found.push(...(await ofChat(chat, since)));
    }
    return found.sort((one, other) => one.t - other.t).slice(0, limit).map(told);
  }

  async function ackOf(key) {
    const message = WPP.whatsapp.MsgStore.get(key) ?? (await WPP.chat.getMessageById(key).catch(() => null));
    return message ? [{ id: key, ack: message.ack }] : [];
  }

  /** How far messages have come: [{id, ack}], without those that the page does not know. */
  async function acks(keys) {
    const found = [];
    for (const key of keys) found.push(...(await ackOf(key)));
    return found;
  }

  window.__waMessages = { events, recent, acks };
})();
