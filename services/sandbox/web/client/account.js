/** The connection: linking by QR code, what the server says of it, and how it ends. */

import { commands, connection, network, own, owner, socket, stream } from './models.js';
import { server } from './server.js';
import { resume } from './sending.js';
import { unsent } from './storage.js';
import { restore } from './messages.js';
import * as screen from './screen.js';

/** QR codes that are shown before the page waits for a person to ask for another. */
const CODES = 6;
/** Milliseconds between a logout and the new page. */
const FAREWELL = 500;

/** wa-js replaces this function by its own around it, so it is called as a member. */
export const logoutReasons = { getErrorCodeFromLogoutReason: () => null };

let codes = 0;
let rotation;

/** Brings the page into the state that the server tells. */
export async function follow(told) {
  if (told.number && !owner.number) await link(told);
  else if (told.number !== owner.number) await unlink(told);
  if (told.number) enter(told.mode);
  else await offerCode(told);
}

async function link(told) {
  clearInterval(rotation);
  own(told);
  connection.set('connected', true);
  connection.set('pushname', told.name);
  socket.set('state', 'PAIRING');
  stream.set('mode', 'SYNCING');
  restore(await server.persist('history'));
  const goOn = await resume();
  commands.isMainLoaded = true;
  commands.trigger('main_loaded');
  goOn();
}

async function unlink(told) {
  own({ number: '' });
  await unsent.clear();
  connection.set('connected', false);
  if (told.logout_reason) logoutReasons.getErrorCodeFromLogoutReason(told.logout_reason);
  commands.trigger('logout');
  socket.set('state', 'UNPAIRED');
  setTimeout(() => location.reload(), FAREWELL);
  await new Promise(() => {});
}

/** MAIN, or what stands in its way. */
function enter(mode) {
  const main = mode === 'MAIN';
  network.set('online', mode !== 'OFFLINE');
  const states = { MAIN: 'CONNECTED', CONFLICT: 'CONFLICT', OFFLINE: 'TIMEOUT', DEPRECATED_VERSION: 'DEPRECATED_VERSION' };
  stream.set('needsUpdate', mode === 'DEPRECATED_VERSION');
  socket.set('state', states[mode] ?? mode);
  stream.set('info', main ? 'NORMAL' : 'OFFLINE');
  stream.set('mode', mode);
  screen.showMode(mode);
}

export function lose() {
  if (owner.number) enter('OFFLINE');
}

async function offerCode(told) {
  if (connection.ref === told.ref && stream.mode === 'QR') return;
  connection.set('ref', told.ref);
  screen.showCode(told.ref);
  stream.set('info', 'PAIRING');
  socket.set('state', 'UNPAIRED');
  stream.set('mode', 'QR');
  clearInterval(rotation);
  rotation = setInterval(nextCode, told.qr_seconds * 1000);
}

async function nextCode() {
  codes += 1;
  if (codes < CODES) return refreshCode();
  clearInterval(rotation);
  screen.showIdle();
  socket.set('state', 'UNPAIRED_IDLE');
}

/** Shows another QR code. */
export async function refreshCode() {
  await server.persist('ref');
}

commands.refreshQR = () => {
  codes = 0;
  socket.set('state', 'UNPAIRED');
  return refreshCode();
};
socket.logout = () => server.tell('logout');
socket.takeover = () => server.tell('takeover');
