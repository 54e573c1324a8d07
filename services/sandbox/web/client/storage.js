/** The storage of this browser profile, in IndexedDB, which survives a SIGKILL: the device's id and the unsent messages. */

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

/** Runs one request against a store. Resolves when the result is on the disk. */
async function run(store, mode, makeRequest) {
  const transaction = (await open()).transaction(store, mode, { durability: 'strict' });
  const request = makeRequest(transaction.objectStore(store));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** The id of this device. It is created once and belongs to the profile. */
export async function deviceId() {
  const known = await run('device', 'readonly', (store) => store.get('id'));
  if (known) return known;
  const id = crypto.randomUUID();
  await run('device', 'readwrite', (store) => store.put(id, 'id'));
  return id;
}

export const unsent = {
  all: () => run('unsent', 'readonly', (store) => store.getAll()),
  add: (message) => run('unsent', 'readwrite', (store) => store.put(message)),
  remove: (attempt) => run('unsent', 'readwrite', (store) => store.delete(attempt)),
  clear: () => run('unsent', 'readwrite', (store) => store.clear()),
};
