/** The simulated WhatsApp Web: starts the page, then takes what the server tells, for ever. */

import { follow, lose } from './account.js';
import { hearing } from './hearing.js';
import { provide } from './loader.js';
import { pause, Refused, server } from './server.js';

async function listen(first) {
  let known = first;
  for (;;) {
    try {
      const found = await server.tell('news', { seq: known.seq, version: known.version });
      await Promise.all(found.news.map(hearing));
      await follow(found);
      known = found;
    } catch (error) {
      if (error instanceof Refused) return location.reload();
      lose();
      await pause();
    }
  }
}

provide();
const state = await server.hello();
await follow(state);
await listen(state);
