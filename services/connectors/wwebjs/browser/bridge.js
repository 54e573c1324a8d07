/** Between the page of WhatsApp Web and its session: calls go in, events come out. Goes after wa-js and messages.js. */
(() => {
  if (window !== window.top || window.__wa) return;

  /** Events that are kept until they are acknowledged, at most. */
  const KEPT = 5000;
  /** Names of further events that are told; those of messages.js come in its form. */
  const PLAIN = [
    'loader.injected', 'loader.ready', 'loader.full_ready', 'conn.require_auth', 'conn.qrcode_idle',
    'conn.authenticated', 'conn.main_init', 'conn.main_loaded', 'conn.main_ready', 'conn.logout', 'conn.logout_reason',
    'conn.needs_update', 'conn.online', 'conn.stream_mode_changed', 'conn.stream_info_changed', 'conn.link_code_change',
    'conn.link_code_expired', 'conn.link_code_error', 'conn.backend_event',
  ];
  const boot = `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`;
  const ring = [];
  let last = 0;

  /** A value as JSON has it: ids as text, errors as their message. */
  function plain(value) {
    return JSON.parse(JSON.stringify(value ?? null, (name, each) => {
      if (typeof each === 'bigint') return Number(each);
      if (each instanceof Error) return { code: each.code ?? null, message: each.message };
      return name !== '' && each?._serialized ? each._serialized : each;
    }) ?? 'null');
  }

  function tell(name, data) {
    last += 1;
    const event = { boot, seq: last, at: Date.now() / 1000, name, data };
    ring.push(event);
    if (ring.length > KEPT) ring.shift();
    try {
      window.__waTell?.(JSON.stringify(event));
    } catch { /* nobody listens just now; whoever comes asks with since() */ }
  }

  /** Passes an event on in the form that `shape` gives it. */
  function listen(name, shape) {
    WPP.on(name, (value) => {
      try {
        tell(name, shape(value));
      } catch (error) {
        tell('bridge.error', { name, message: String(error?.message ?? error) });
      }
    });
  }

  /** The events after `seq` of the page's life `from`; all that are kept where that was another one. */
  function since(from, seq) {
    return from === boot ? ring.filter((event) => event.seq > seq) : [...ring];
  }

  /** Forgets the events up to `seq` of this life. */
  function ack(of, seq) {
    while (of === boot && ring.length && ring[0].seq <= seq) ring.shift();
  }

  /** What the page says of itself; what cannot be asked yet is null. */
  function health() {
    const of = (ask) => {
      try {
        return ask() ?? null;
      } catch {
        return null;
      }
    };
    const { whatsapp, conn } = WPP;
    const ready = WPP.isInjected;
    return {
      boot, seq: last, full: WPP.isFullReady === true, wa_js: WPP.version,
      mode: ready ? of(() => whatsapp.Stream.mode) : null,
      info: ready ? of(() => whatsapp.Stream.info) : null,
      socket: ready ? of(() => whatsapp.Socket.state) : null,
      authenticated: ready ? of(() => conn.isAuthenticated()) : null,
      online: ready ? of(() => conn.isOnline()) : null,
      needs_update: ready ? of(() => conn.needsUpdate()) : null,
      wa_web: ready ? of(() => conn.getBuildConstants().VERSION_STR) ?? of(() => window.Debug.VERSION) : null,
      me: ready ? of(() => plain({ id: conn.getMyUserId() }).id) : null,
    };
  }

  /** The text of the QR code that is shown: five fields, which wa-js alone does not know. Null where there is none. */
  function qr() {
    const shown = document.querySelector('[data-testid="link-device-qr-code"][data-ref]')
      ?? document.querySelector('canvas')?.closest('[data-ref]');
    const text = shown?.getAttribute('data-ref');
    return text && !text.startsWith('undefined') ? text : null;
  }

  /** A key for a message that is about to be sent to a chat. */
  async function newKey(chatId) {
    const chat = await WPP.chat.find(chatId);
    return String(await WPP.chat.generateMessageID(chat));
  }

  const ABSENT = ['msg_not_found', 'chat_not_found', 'message_not_found'];

  async function model(key) {
    const known = WPP.whatsapp.MsgStore.get(key);
    if (known) return known;
    try {
      return (await WPP.chat.getMessageById(key)) ?? null;
    } catch (error) {
      if (ABSENT.includes(error?.code)) return null;
      throw error;
    }
  }

  /** What the page knows of a message: {id, ack, type, t}; null where it is not there. */
  async function find(key) {
    const found = await model(key);
    return found && { id: String(found.id), ack: found.ack ?? 0, type: found.type, t: found.t };
  }

  /** Keys of the messages that calls are sending, and how many calls. */
  const running = new Map();

  /** The message in its chat, which may go by a hidden number since the key was made. */
  async function inItsChat(key) {
    const { remote, id } = WPP.whatsapp.MsgKey.fromString(key);
    const chat = await WPP.chat.find(remote);
    return chat.msgs.getModelsArray().find((each) => each.id.fromMe && each.id.id === id) ?? null;
  }

  /** How far a message is that was to be sent: its ack, null where it is not there, and whether a call sends it yet. */
  async function sight(key) {
    const underWay = running.has(key); // asked first: a call that ends meanwhile leaves its message behind
    const found = (await model(key)) ?? (await inItsChat(key));
    return { ack: found ? (found.ack ?? 0) : null, running: underWay };
  }

  function count(key, by) {
    const now = (running.get(key) ?? 0) + by;
    if (now > 0) running.set(key, now);
    else running.delete(key);
  }

  /** Calls a function by its path, and counts the call while it sends a message under a key. */
  async function call(path, given) {
    const parts = path.split('.');
    const name = parts.pop();
    const owner = parts.reduce((object, part) => object?.[part], window);
    if (typeof owner?.[name] !== 'function') throw Object.assign(new Error(`${path} is no function`), { code: 'no_function' });
    const keys = given.map((each) => each?.messageId).filter((each) => typeof each === 'string');
    for (const key of keys) count(key, 1);
    try {
      return await owner[name](...given);
    } finally {
      for (const key of keys) count(key, -1);
    }
  }

  const failure = (error) => ({ code: error?.code ?? null, message: String(error?.message ?? error) });

  /** Calls a function: {value} in plain JSON, or {code, message} of what it threw. */
  async function run(path, given) {
    try {
      return { value: plain(await call(path, given)) };
    } catch (error) {
      return failure(error);
    }
  }

  const INPUT = '__wa_file';

  /** Makes way for the file that is to be sent next. */
  function expectFile() {
    document.getElementById(INPUT)?.remove();
    const input = Object.assign(document.createElement('input'), { type: 'file', id: INPUT, hidden: true });
    document.documentElement.append(input);
    return INPUT;
  }

  /** Sends the file that was put into the input. */
  async function sendFile(chatId, options) {
    const input = document.getElementById(INPUT);
    const [file] = input?.files ?? [];
    input?.remove();
    if (!file) throw Object.assign(new Error('the browser could not read the file'), { code: 'no_file' });
    const { filename = file.name, mimetype = file.type } = options;
    const named = new File([file], filename, { type: mimetype }); // wa-js would take its name on our disk
    const sent = await WPP.chat.sendFileMessage(chatId, named, options);
    return { id: String(sent.id), ack: sent.ack, sendMsgResult: await sent.sendMsgResult };
  }

  /** Calls a function that gives a Blob. */
  async function blob(path, given) {
    const found = await call(path, given);
    if (!(found instanceof Blob)) throw Object.assign(new Error(`${path} gave no file`), { code: 'no_file' });
    return found;
  }

  const at = (path) => path.split('.').reduce((object, part) => object?.[part], window);

  /** What lies at these paths: the number of a function's parameters, else its type. */
  function inspect(paths) {
    return Object.fromEntries(paths.map((path) => {
      const found = at(path);
      return [path, typeof found === 'function' ? found.length : typeof found];
    }));
  }

  /** Goes on here when WhatsApp is open elsewhere. */
  async function takeOver() {
    const { Socket } = WPP.whatsapp;
    if (typeof Socket.takeover === 'function') return Socket.takeover();
    const here = document.querySelector('[data-testid="use-here"]');
    if (!here) throw Object.assign(new Error('the page offers no way to go on here'), { code: 'no_takeover' });
    return here.click();
  }

  const { events = {}, recent, acks } = window.__waMessages ?? {};
  window.__wa = {
    boot, since, ack, health, qr, newKey, find, sight, recent, acks, run, expectFile, sendFile, blob, failure, takeOver,
    inspect,
  };
  tell('bridge.loaded', { url: location.href });
  listen('conn.auth_code_change', (code) => ({ shown: Boolean(code) }));
  for (const name of PLAIN) listen(name, plain);
  for (const [name, shape] of Object.entries(events)) listen(name, (value) => plain(shape(value)));
})();
