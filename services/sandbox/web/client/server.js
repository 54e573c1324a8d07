/** Calls of the simulator's server. */

import { deviceId } from './storage.js';

const RETRY_PAUSE_MS = 300;

const boot = crypto.randomUUID();
let device;

/** The server refused the request: retrying is of no use. */
export class Refused extends Error {}

/** The server cannot be reached. */
export class Unreachable extends Error {}

async function call(path, body, more = {}) {
  const query = new URLSearchParams({ device, boot, ...more });
  const answer = await fetch(`api/${path}?${query}`, { method: 'POST', body, cache: 'no-store' }).catch(throwUnreachable);
  if (answer.status >= 500) throw new Unreachable(answer.statusText);
  const fields = await answer.json().catch(throwUnreachable);
  if (!answer.ok) throw new Refused(fields.error);
  return fields;
}

function throwUnreachable(error) {
  throw new Unreachable(error.message);
}

async function retry(request) {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      await pause();
    }
  }
}

export function pause() {
  return new Promise((resolve) => setTimeout(resolve, RETRY_PAUSE_MS));
}

export const server = {
  /** Reports that the page was loaded. Returns its state. */
  async hello() {
    device = await deviceId();
    return server.persist('hello');
  },
  /** Sends a request once. */
  post: (path, fields = {}) => call(path, JSON.stringify(fields)),
  /** Retries a request until the server answers. */
  persist: (path, fields = {}) => retry(() => server.post(path, fields)),
  /** Uploads a file, with retries. Returns the server's description of it. */
  upload: (blob, facts) => retry(() => call('media', blob, facts)),
  /** The URL of a file. */
  mediaUrl: (id) => `media/${id}`,
};
