/** The calls to the simulator's server. */

import { deviceId } from './storage.js';

/** Milliseconds between two tries while the server cannot be reached. */
const PAUSE = 300;

const boot = crypto.randomUUID();
let device;

/** The server answered, and did not want the request: trying again is of no use. */
export class Refused extends Error {}

/** The server cannot be reached. */
export class Away extends Error {}

async function call(path, body, more = {}) {
  const query = new URLSearchParams({ device, boot, ...more });
  const answer = await fetch(`api/${path}?${query}`, { method: 'POST', body, cache: 'no-store' }).catch(away);
  if (answer.status >= 500) throw new Away(answer.statusText);
  const found = await answer.json().catch(away);
  if (!answer.ok) throw new Refused(found.error);
  return found;
}

function away(error) {
  throw new Away(error.message);
}

async function persistently(ask) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Away)) throw error;
      await pause();
    }
  }
}

export function pause() {
  return new Promise((resolve) => setTimeout(resolve, PAUSE));
}

export const server = {
  /** Says that the page was loaded. */
  async hello() {
    device = await deviceId();
    return server.persist('hello');
  },
  /** Asks once. */
  tell: (path, fields = {}) => call(path, JSON.stringify(fields)),
  /** Asks until the server answers. */
  persist: (path, fields = {}) => persistently(() => server.tell(path, fields)),
  /** Uploads a file, however long it takes, and returns what the server calls it. */
  upload: (blob, facts) => persistently(() => call('media', blob, facts)),
  /** Where a file is. */
  media: (id) => `media/${id}`,
};
