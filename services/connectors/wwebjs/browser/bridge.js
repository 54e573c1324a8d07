/** The bridge between the page of WhatsApp Web and its session: calls and events. Load it after wa-js and messages.js. */
(() => {
  if (window !== window.top || window.__wa) return;

  /** Maximum number of events that wait for their acknowledgement. */
  const MAX_EVENTS = 5000;
  /** Events that are passed on as plain JSON; messages.js shapes the others. */
  const PLAIN_EVENTS = [
    'loader.injected', 'loader.ready', 'loader.full_ready', 'conn.require_auth', 'conn.qrcode_idle',
    'conn.authenticated', 'conn.main_init', 'conn.main_loaded', 'conn.main_ready', 'conn.logout', 'conn.logout_reason',
    'conn.needs_update', 'conn.online', 'conn.stream_mode_changed', 'conn.stream_info_changed', 'conn.link_code_change',
    'conn.link_code_expired', 'conn.link_code_error', 'conn.backend_event',
  ];
  const boot = `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`;
  const unacknowledged = [];
  let lastSeq = 0;

  /** The value as plain JSON: ids become text, errors their code and message. */
  function plain(value) {
    return JSON.parse(JSON.stringify(value ?? null, (name, each) => {
      if (typeof each === 'bigint') return Number(each);
      if (each instanceof Error) return { code: each.code ?? null, message: each.message };
      return name !== '' && each?._serialized ? each._serialized : each;
    }) ?? 'null');
  }

  function emit(name, data) {
    lastSeq += 1;
    const event = { boot, seq: lastSeq, at: Date.now() / 1000, name, data };
    unacknowledged.push(event);
    if (unacknowledged.length > MAX_EVENTS) unacknowledged.shift();
    try {
      window.__waEmit?.(JSON.stringify(event));
    } catch { /* no connection at the moment; the next one calls since() */ }
  }

  /** Forwards an event in the form that `shape` returns. */
  function forward(name, shape) {
    WPP.on(name, (value) => {
      try {
        emit(name, shape(value));
      } catch (error) {
        emit('bridge.error', { name, message: String(error?.message ?? error) });
      }
    });
  }

  /** The events after `seq` if `loadId` is this load of the page, otherwise all that are kept. */
  function since(loadId, seq) {
    return loadId === boot ? unacknowledged.filter((event) => event.seq > seq) : [...unacknowledged];
  }

  /** Drops the events up to `seq` of this load. */
  function ack(loadId, seq) {
    while (loadId === boot && unacknowledged.length && unacknowledged[0].seq <= seq) unacknowledged.shift();
  }

  /** The text of the visible QR code: five fields, which wa-js alone does not have. Null if no code is visible. */
  function qr() {
    const element = document.querySelector('[data-testid="link-device-qr-code"][data-ref]')
      ?? document.querySelector('canvas')?.closest('[data-ref]');
    const text = element?.getAttribute('data-ref');
    return text && !text.startsWith('undefined') ? text : null;
  }

  /** The page's report on itself; a value that cannot be read yet is null. */
  function health() {
    const valueOf = (read) => {
      try {
        return read() ?? null;
      } catch {
        return null;
      }
    };
    const { whatsapp, conn } = WPP;
    const ready = WPP.isInjected;
    return {
      boot, seq: lastSeq, full: WPP.isFullReady === true, wa_js: WPP.version,
      mode: ready ? valueOf(() => whatsapp.Stream.mode) : null,
      info: ready ? valueOf(() => whatsapp.Stream.info) : null,
      socket: ready ? valueOf(() => whatsapp.Socket.state) : null,
      authenticated: ready ? valueOf(() => conn.isAuthenticated()) : null,
      online: ready ? valueOf(() => conn.isOnline()) : null,
      needs_update: ready ? valueOf(() => conn.needsUpdate()) : null,
      wa_web: ready ? valueOf(() => conn.getBuildConstants().VERSION_STR) ?? valueOf(() => window.Debug.VERSION) : null,
      me: ready ? valueOf(() => plain({ id: conn.getMyUserId() }).id) : null,
      qr: valueOf(qr),
    };
  }

  const failure = (error) => ({ code: error?.code ?? null, message: String(error?.message ?? error) });

  /** Generates the key of a message that is about to be sent to a chat. */
  async function newKey(chatId) {
    const chat = await WPP.chat.find(chatId);
    return String(await WPP.chat.generateMessageID(chat));
  }

  /** Looks a number up if it is `unknown`, and generates a key: {found, key}, or {code, message} of what failed. */
  async function admit([chatId, unknown]) {
    let found = true;
    try {
      found = !unknown || Boolean(await WPP.contact.queryWidExists(chatId));
    } catch (error) {
      return { found: null, ...failure(error) };
    }
    try {
      return { found, key: found ? await newKey(chatId) : null };
    } catch (error) {
      return { found, ...failure(error) };
    }
  }

  /** Generates ids, the middle parts of keys, for messages to come: they are the same for any chat. */
  async function newIds(chatId, count) {
    const keys = await Promise.all(Array.from({ length: count }, () => WPP.chat.generateMessageID(chatId)));
    return keys.map(({ id }) => id);
  }

  /** The same for messages of several chats, each a pair of the chat's id and whether its number is unknown. */
  async function admitAll(chats, spareCount = 0) {
    const messages = await Promise.all(chats.map(admit));
    const known = messages.findIndex(({ key }) => key);
    const spareIds = known < 0 ? [] : await newIds(chats[known][0], spareCount).catch(() => []);
    return { messages, spareIds };
  }

  const NOT_FOUND_CODES = ['msg_not_found', 'chat_not_found', 'message_not_found'];

  async function messageOf(key) {
    const cached = WPP.whatsapp.MsgStore.get(key);
    if (cached) return cached;
    try {
      return (await WPP.chat.getMessageById(key)) ?? null;
    } catch (error) {
      if (NOT_FOUND_CODES.includes(error?.code)) return null;
      throw error;
    }
  }

  /** A message of the page: {id, ack, type, t}; null if there is none with this key. */
  async function find(key) {
    const found = await messageOf(key);
    return found && { id: String(found.id), ack: found.ack ?? 0, type: found.type, t: found.t };
  }

  /** The number of running calls that send a message, by its key. */
  const running = new Map();

  /** Looks for the message in its chat, which may have got a hidden number after the key was generated. */
  async function messageInChat(key) {
    const { remote, id } = WPP.whatsapp.MsgKey.fromString(key);
    const chat = await WPP.chat.find(remote);
    return chat.msgs.getModelsArray().find((each) => each.id.fromMe && each.id.id === id) ?? null;
  }

  /** The state of a message that was to be sent: its ack (null: no such message), and whether a call still sends it. */
  async function sight(key) {
    const isRunning = running.has(key); // read first: a call that ends meanwhile leaves its message behind
    const found = (await messageOf(key)) ?? (await messageInChat(key));
    return { ack: found ? (found.ack ?? 0) : null, running: isRunning };
  }

  /** The states of several messages, in their order. */
  const sightAll = (keys) => Promise.all(keys.map(sight));

  function countCall(key, by) {
    const now = (running.get(key) ?? 0) + by;
    if (now > 0) running.set(key, now);
    else running.delete(key);
  }

  /** Calls a function by its path, and counts the call while it sends a message under a key. */
  async function call(path, args) {
    const parts = path.split('.');
    const name = parts.pop();
    const owner = parts.reduce((object, part) => object?.[part], window);
    if (typeof owner?.[name] !== 'function') throw Object.assign(new Error(`${path} is not a function`), { code: 'no_function' });
    const keys = args.map((each) => each?.messageId).filter((each) => typeof each === 'string');
    for (const key of keys) countCall(key, 1);
    try {
      return await owner[name](...args);
    } finally {
      for (const key of keys) countCall(key, -1);
    }
  }

  /** Calls a function: {value} as plain JSON, or {code, message} of the error that it threw. */
  async function run(path, args) {
    try {
      return { value: plain(await call(path, args)) };
    } catch (error) {
      return failure(error);
    }
  }

  /** Sends a text, and reports how that ended once WhatsApp has acknowledged it. */
  async function sendText(chatId, content, options) {
    const key = options.messageId;
    try {
      const sent = await call('WPP.chat.sendTextMessage', [chatId, content, { ...options, waitForAck: true }]);
      emit('send.ended', { key, id: String(sent.id), ack: sent.ack });
    } catch (error) {
      emit('send.ended', { key, failure: failure(error) });
    }
  }

  /** Begins to send texts and returns at once; events named `send.ended` say how that ended. */
  function sendTexts(messages) {
    for (const message of messages) sendText(...message);
    return null;
  }

  const INPUT_ID = '__wa_file';

  /** Creates the input for the file that is sent next. */
  function expectFile() {
    document.getElementById(INPUT_ID)?.remove();
    const input = Object.assign(document.createElement('input'), { type: 'file', id: INPUT_ID, hidden: true });
    document.documentElement.append(input);
    return INPUT_ID;
  }

  /** Sends the file that was chosen in the input. */
  async function sendFile(chatId, options) {
    const input = document.getElementById(INPUT_ID);
    const [file] = input?.files ?? [];
    input?.remove();
    if (!file) throw Object.assign(new Error('the browser could not read the file'), { code: 'no_file' });
    const { filename = file.name, mimetype = file.type } = options;
    const named = new File([file], filename, { type: mimetype }); // wa-js would use its name on our disk
    const sent = await WPP.chat.sendFileMessage(chatId, named, options);
    return { id: String(sent.id), ack: sent.ack, sendMsgResult: await sent.sendMsgResult };
  }

  /** Calls a function that returns a Blob. */
  async function blob(path, args) {
    const found = await call(path, args);
    if (!(found instanceof Blob)) throw Object.assign(new Error(`${path} returned no file`), { code: 'no_file' });
    return found;
  }

  const at = (path) => path.split('.').reduce((object, part) => object?.[part], window);

  /** The values at these paths: the number of parameters of a function, the type of anything else. */
  function inspect(paths) {
    return Object.fromEntries(paths.map((path) => {
      const found = at(path);
      return [path, typeof found === 'function' ? found.length : typeof found];
    }));
  }

  /** Takes the session over when WhatsApp is open in another browser. */
  async function takeOver() {
    const { Socket } = WPP.whatsapp;
    if (typeof Socket.takeover === 'function') return Socket.takeover();
    const button = document.querySelector('[data-testid="use-here"]');
    if (!button) throw Object.assign(new Error('the page offers no takeover'), { code: 'no_takeover' });
    return button.click();
  }

  const { events = {}, recent, acks } = window.__waMessages ?? {};
  window.__wa = {
    boot, since, ack, health, newKey, admitAll, find, sight, sightAll, recent, acks, run, sendTexts, expectFile, sendFile,
    blob, failure, takeOver, inspect,
  };
  emit('bridge.loaded', { url: location.href });
  forward('conn.auth_code_change', (code) => ({ shown: Boolean(code) }));
  for (const name of PLAIN_EVENTS) forward(name, plain);
  for (const [name, shape] of Object.entries(events)) forward(name, (value) => plain(shape(value)));
})();
