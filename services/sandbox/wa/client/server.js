/** The calls to the simulator's server. */

import { deviceId } from './storage.js';

/** Milliseconds between two tries while the server cannot be reached. */
const PAUSE = 300;

const boot = crypto.randomUUID();
let device;

/** The server answered, and did not want the request: trying again is of no use. */
export class Refused extends Error {}

async function call(path, fields, method = 'POST', body = undefined) {
  const query = new URLSearchParams({ device, boot, ...(body === undefined ? {} : fields) });
  const sent = body === undefined ? JSON.stringify(fields) : body;
  const answer = await fetch(`api/${path}?${query}`, { method, body: sent, cache: 'no-store' });
  const found = await answer.json();
  if (answer.status >= 500) throw new Error(found.error);
  if (!answer.ok) throw new Refused(found.error);
  return found;
}

export function pause(milliseconds = PAUSE) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** A call, repeated until the server answers. */
export async function persist(path, fields, body = undefined) {
  for (;;) {
    try {
      return await call(path, fields, 'POST', body);
    } catch (error) {
      if (error instanceof Refused) throw error;
      await pause();
    }
  }
}

export const server = {
  async hello() {
    device = await deviceId();
    return persist('hello', {});
  },
  news: (seen) => call('news', seen),
  tell: (path, fields = {}) => call(path, fields),
  media: (id) => `media/${id}`,
};
