/** The simulated WhatsApp Web: starts the page, then takes what the server tells, for ever. */

import { follow, lose } from './account.js';
import { hearing } from './hearing.js';
import { provide } from './loader.js';
import { pause, Refused, server } from './server.js';

async function listen(first) {
  let state = first;
  for (;;) {
    try {
      const found = await server.news({ seq: state.seq, version: state.version });
      for (const news of found.news) await hearing(news);
      state = found;
      await follow(found);
    } catch (error) {
      if (error instanceof Refused) return location.reload();
      if (!(error instanceof TypeError) && !error.away) console.error(error);
      lose();
      await pause();
    }
  }
}

provide();
const state = await server.hello();
await follow(state);
await listen(state);
