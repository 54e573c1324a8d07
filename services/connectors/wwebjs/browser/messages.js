/** Messages of the page as plain JSON, in the shapes that incoming.py reads. Load it before bridge.js. */
(() => {
  if (window !== window.top || window.__waMessages) return;

  /** Types whose body is text that a person wrote or chose; the body of others is a thumbnail or a card. */
  const TYPES_WITH_TEXT = [
    'chat', 'buttons_response', 'template_button_reply', 'list_response', 'interactive', 'interactive_response', 'hsm', 'list',
    'buttons', 'template', 'comment',
  ];
  /** Attributes that are passed on unchanged. */
  const PLAIN_ATTRIBUTES = [
    'type', 'subtype', 'caption', 't', 'ack', 'mimetype', 'filename', 'size', 'filehash', 'duration', 'isGif',
    'isViewOnce', 'isForwarded', 'forwardingScore', 'footer', 'lat', 'lng', 'loc', 'orderId', 'inviteCode', 'selectedButtonId', 'selectedId',
  ];
  /** Messages of a chat that are fetched at once. */
  const PAGE_SIZE = 50;
  /** Messages of a chat that are fetched at most. */
  const MAX_OF_A_CHAT = 2000;

  const textOf = (id) => (id ? String(id) : undefined);

  function quoted(message) {
    if (!message.quotedStanzaID) return undefined;
    try {
      return textOf(message.quotedMsgId) ?? message.quotedStanzaID;
    } catch {
      return message.quotedStanzaID;
    }
  }

  /** The phone number of a hidden user, if WhatsApp knows it. */
  function phone(wid) {
    if (!wid?.isLid?.()) return undefined;
    return textOf(WPP.whatsapp.lidPnCache?.getPhoneNumber?.(wid));
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
    return message.pollName ?? message.eventName ?? message.listResponse?.title ?? message.list?.title ?? message.orderTitle
      ?? message.inviteGrpName ?? message.title;
  }

  /** The advertisement that led to a message, without its pictures. */
  function referral({ ctwaContext }) {
    if (!ctwaContext) return undefined;
    const { sourceUrl, sourceId, sourceType, title: headline, description: body, ctwaClid } = ctwaContext;
    return { source_url: sourceUrl, source_id: sourceId, source_type: sourceType, headline, body, ctwa_clid: ctwaClid };
  }

  /** The time of its last edit in milliseconds; `true` if the time is not known. */
  function edited({ latestEditMsgKey, latestEditSenderTimestampMs }) {
    return latestEditMsgKey ? (latestEditSenderTimestampMs ?? true) : undefined;
  }

  function about(message) {
    const chat = message.id.remote;
    const author = chat.isGroup?.() && !message.id.fromMe ? message.author : undefined;
    return {
      id: textOf(message.id), phone: phone(chat), author: textOf(author), authorPhone: phone(author),
      name: message.notifyName || nameOf(author ?? message.from),
      chatName: chat.isGroup?.() ? WPP.whatsapp.ChatStore.get(chat)?.name : undefined,
    };
  }

  function shaped(message) {
    const plain = Object.fromEntries(PLAIN_ATTRIBUTES.map((name) => [name, message[name] || undefined]));
    return {
      ...plain, ...about(message), ack: message.ack, quoted: quoted(message), title: title(message),
      vcards: cards(message), body: TYPES_WITH_TEXT.includes(message.type) ? message.body : undefined, edited: edited(message),
      mentioned: message.mentionedJidList?.length ? message.mentionedJidList.map(String) : undefined,
      options: message.pollOptions?.map((each) => each.name), description: message.list?.description, referral: referral(message),
      lat: message.lat, lng: message.lng,
    };
  }

  /** The shape of each event. These functions are synchronous, so events stay in their order. */
  const events = {
    'chat.new_message': shaped,
    'chat.msg_ack_change': ({ ack, chat, sender, ids }) => (
      { ack, chat: textOf(chat), sender: textOf(sender), ids: ids.map(String) }
    ),
    'chat.msg_edited': ({ id, msg }) => ({ id, msg: shaped(msg) }),
    'chat.msg_revoke': ({ refId, type }) => ({ refId: textOf(refId), phone: phone(refId.remote), type }),
    'chat.new_reaction': ({ id, msgId, reactionText, sender, timestamp }) => ({
      id: textOf(id), msgId: textOf(msgId), text: reactionText, t: timestamp, sender: textOf(sender),
      phone: phone(msgId.remote), name: nameOf(sender),
    }),
    'call.incoming_call': ({ id, sender, isVideo, isGroup, offerTime }) => (
      { id, from: textOf(sender), isVideo, isGroup, t: offerTime, phone: phone(sender), name: nameOf(sender) }
    ),
  };

  async function ofChat(chat, since) {
    const found = new Map();
    let options = { count: PAGE_SIZE };
    while (options && found.size < MAX_OF_A_CHAT) {
      const page = await WPP.chat.getMessages(chat.id, options);
      const fresh = page.filter((message) => !found.has(String(message.id)));
      for (const message of fresh) found.set(String(message.id), message);
      const oldest = fresh.length ? fresh.reduce((one, other) => (other.t < one.t ? other : one)) : undefined;
      options = oldest?.t >= since ? { count: PAGE_SIZE, direction: 'before', id: String(oldest.id) } : undefined;
    }
    return [...found.values()].filter((message) => message.t >= since);
  }

  /** The messages of all chats since `since` (seconds), the oldest first, at most `limit`. */
  async function recent(since, limit) {
    const found = [];
    for (const chat of WPP.whatsapp.ChatStore.getModelsArray()) {
      if (chat.t >= since) found.push(...(await ofChat(chat, since)));
    }
    return found.sort((one, other) => one.t - other.t).slice(0, limit).map(shaped);
  }

  async function ackOf(key) {
    const message = WPP.whatsapp.MsgStore.get(key) ?? (await WPP.chat.getMessageById(key).catch(() => null));
    return message ? [{ id: key, ack: message.ack }] : [];
  }

  /** The acknowledgements of messages: [{id, ack}], without those that the page does not have. */
  async function acks(keys) {
    const found = [];
    for (const key of keys) found.push(...(await ackOf(key)));
    return found;
  }

  window.__waMessages = { events, recent, acks };
})();
