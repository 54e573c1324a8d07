/** What this browser profile keeps, in IndexedDB: it survives a SIGKILL. Who the device is, and what it still has to send. */

const NAME = 'whatsapp-simulator';

let opened;

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore('device');
      request.result.createObjectStore('unsent', { keyPath: 'attempt' });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

/** Runs one request against a store; done when it is on the disk. */
async function run(store, mode, ask) {
  const transaction = (await open()).transaction(store, mode, { durability: 'strict' });
  const request = ask(transaction.objectStore(store));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** The id of this device: made once, kept with the profile. */
export async function deviceId() {
  const kept = await run('device', 'readonly', (store) => store.get('id'));
  if (kept) return kept;
  const made = crypto.randomUUID();
  await run('device', 'readwrite', (store) => store.put(made, 'id'));
  return made;
}

export const unsent = {
  all: () => run('unsent', 'readonly', (store) => store.getAll()),
  keep: (message) => run('unsent', 'readwrite', (store) => store.put(message)),
  forget: (attempt) => run('unsent', 'readwrite', (store) => store.delete(attempt)),
  clear: () => run('unsent', 'readwrite', (store) => store.clear()),
};
