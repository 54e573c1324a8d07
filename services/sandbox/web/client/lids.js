/** Hidden numbers: WhatsApp knows people by a lid, and tells the number of some. */

import { Wid } from './ids.js';
import { chats, chatWith } from './models.js';

const numbers = new Map();
const hidden = new Map();

/** Remembers whose number a lid hides. */
export function learn(lid, number) {
  if (!number) return;
  numbers.set(String(lid), new Wid(number));
  hidden.set(String(number), new Wid(lid));
}

export function numberOf(wid) {
  return numbers.get(String(wid)) ?? null;
}

export function lidOf(wid) {
  return hidden.get(String(wid)) ?? null;
}

/** The chat with someone: the one under the lid where there is one. */
export function latestChat(wid) {
  const other = lidOf(wid);
  return (other && chats.get(other)) ?? chatWith(wid);
}
