/** Hidden numbers: WhatsApp has a lid for each person, and shows the number of some. */

import { Wid } from './ids.js';
import { chats, chatWith } from './models.js';

const numbers = new Map();
const lids = new Map();

/** Records the number of a lid. */
export function learnNumber(lid, number) {
  if (!number) return;
  numbers.set(String(lid), new Wid(number));
  lids.set(String(number), new Wid(lid));
}

export function numberOf(wid) {
  return numbers.get(String(wid)) ?? null;
}

export function lidOf(wid) {
  return lids.get(String(wid)) ?? null;
}

/** The chat with a person: the one with the lid if it exists. */
export function latestChat(wid) {
  const other = lidOf(wid);
  return (other && chats.get(other)) ?? chatWith(wid);
}
