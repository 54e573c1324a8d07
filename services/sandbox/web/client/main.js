/** The simulated WhatsApp Web: starts the page, then polls for updates for ever. */

import { applyState, showOffline } from './account.js';
import { provide } from './loader.js';
import { pause, Refused, server } from './server.js';
import { applyUpdate } from './updates.js';

async function poll(first) {
  let known = first;
  for (;;) {
    try {
      const answer = await server.post('updates', { seq: known.seq, version: known.version });
      await Promise.all(answer.updates.map(applyUpdate));
      await applyState(answer);
      known = answer;
    } catch (error) {
      if (error instanceof Refused) return location.reload();
      showOffline();
      await pause();
    }
  }
}

provide();
const state = await server.hello();
await applyState(state);
await poll(state);
