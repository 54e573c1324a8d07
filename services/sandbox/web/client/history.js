/** wa-js's queries for older messages. */

import { Collection } from './emitter.js';
import { chats, messages } from './models.js';
import { server } from './server.js';
import { restore } from './messages.js';

/** The messages of a chat before or after one of them, the oldest first. */
export async function findByDirection({ anchor, count, direction }) {
  const all = chats.get(anchor.remote)?.msgs.getModelsArray() ?? [];
  const at = all.findIndex((each) => each.id.equals(anchor));
  if (direction === 'after') return { messages: all.slice(at + 1, at + 1 + count) };
  return { messages: all.slice(Math.max(0, at - count), Math.max(0, at)) };
}

export const findBefore = ({ anchor, count }) => findByDirection({ anchor, count, direction: 'before' });
export const findAfter = ({ anchor, count }) => findByDirection({ anchor, count, direction: 'after' });

/** The context of a message that the page may not have loaded. */
export function searchContext(chat, key) {
  const collection = new Collection();
  const load = async () => {
    const { message } = await server.post('message', { key: String(key) });
    if (!message) return;
    restore({ messages: [message], chats: [] });
    collection.add(messages.get(key));
  };
  return { collection, loadAroundPromise: load() };
}
