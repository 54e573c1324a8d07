/** The visible page, and the elements in which a bot's driver finds the QR code. */

import { codeText } from './keys.js';
import { chats, owner, socket } from './models.js';

const app = document.getElementById('app');

const MODE_TITLES = {
  CONFLICT: 'WhatsApp is open in another window.',
  OFFLINE: 'WhatsApp cannot be reached. Reconnecting…',
  DEPRECATED_VERSION: 'Update WhatsApp to continue.',
  TOS_BLOCK: 'This account is not allowed to use WhatsApp.',
  SMB_TOS_BLOCK: 'This account is not allowed to use WhatsApp Business.',
  PROXYBLOCK: 'WhatsApp cannot be reached through this proxy.',
};

function element(name, attributes = {}, ...content) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...content);
  return node;
}

export function showCode(ref) {
  const text = codeText(ref);
  const picture = element('img', { src: `code.svg?${new URLSearchParams({ text })}`, alt: 'QR code', width: 280 });
  const box = element('div', { 'data-testid': 'link-device-qr-code', 'data-ref': text }, element('canvas', { hidden: '' }), picture);
  const hint = element('p', {}, 'Scan it on the page /_sandbox/wa/, or with `bisnesctl sandbox scan`.');
  app.replaceChildren(element('h1', {}, 'Link a device'), box, hint);
}

export function showIdle() {
  app.replaceChildren(element('h1', {}, 'Link a device'), element('p', {}, 'The QR code has expired: reload the page.'));
}

let shownMode;

export function showMode(mode) {
  if (mode === 'MAIN') showChats();
  else if (mode !== shownMode) showProblem(mode);
  shownMode = mode;
}

function showProblem(mode) {
  const parts = [element('h1', {}, MODE_TITLES[mode] ?? mode)];
  if (mode === 'CONFLICT') {
    const useHere = element('button', { 'data-testid': 'use-here' }, 'Use here');
    useHere.addEventListener('click', () => socket.takeover());
    parts.push(useHere);
  }
  app.replaceChildren(...parts);
}

function showChats() {
  const rows = chats.map((chat) => element('li', {}, `${chat.id.user}: ${lastLine(chat)}`));
  app.replaceChildren(element('h1', {}, `WhatsApp of ${owner.number}`), element('ul', {}, ...rows));
}

function lastLine(chat) {
  const last = chat.lastReceivedKey && chat.msgs.get(chat.lastReceivedKey);
  if (!last) return '';
  return last.type === 'chat' ? last.body : `${last.type} ${last.caption ?? ''}`;
}
