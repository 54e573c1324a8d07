/** The connection: linking by QR code, the states that the server sets, and logout. */

import { commands, connection, network, owner, setOwner, socket, stream } from './models.js';
import { server } from './server.js';
import { resume } from './sending.js';
import { unsent } from './storage.js';
import { restore } from './messages.js';
import * as screen from './screen.js';

/** QR codes that are shown before the page waits for a click. */
const MAX_QR_CODES = 6;
/** Delay between a logout and the reload of the page. */
const LOGOUT_RELOAD_MS = 500;

/** wa-js wraps this function, so it has to be called as a member. */
export const logoutReasons = { getErrorCodeFromLogoutReason: () => null };

let shownCodes = 0;
let rotation;

/** Brings the page into the state that the server has for it. */
export async function applyState(state) {
  if (state.number && !owner.number) await link(state);
  else if (state.number !== owner.number) await unlink(state);
  if (state.number) enterMode(state.mode);
  else await offerCode(state);
}

async function link(state) {
  clearInterval(rotation);
  setOwner(state);
  connection.set('connected', true);
  connection.set('pushname', state.name);
  socket.set('state', 'PAIRING');
  stream.set('mode', 'SYNCING');
  restore(await server.persist('history'));
  const sendUnsent = await resume();
  commands.isMainLoaded = true;
  commands.trigger('main_loaded');
  sendUnsent();
}

async function unlink(state) {
  setOwner({ number: '' });
  await unsent.clear();
  connection.set('connected', false);
  if (state.logout_reason) logoutReasons.getErrorCodeFromLogoutReason(state.logout_reason);
  commands.trigger('logout');
  socket.set('state', 'UNPAIRED');
  setTimeout(() => location.reload(), LOGOUT_RELOAD_MS);
  await new Promise(() => {});
}

/** Shows a mode: MAIN, or one that keeps the page from working. */
function enterMode(mode) {
  const main = mode === 'MAIN';
  network.set('online', mode !== 'OFFLINE');
  const states = { MAIN: 'CONNECTED', CONFLICT: 'CONFLICT', OFFLINE: 'TIMEOUT', DEPRECATED_VERSION: 'DEPRECATED_VERSION' };
  stream.set('needsUpdate', mode === 'DEPRECATED_VERSION');
  socket.set('state', states[mode] ?? mode);
  stream.set('info', main ? 'NORMAL' : 'OFFLINE');
  stream.set('mode', mode);
  screen.showMode(mode);
}

export function showOffline() {
  if (owner.number) enterMode('OFFLINE');
}

async function offerCode(state) {
  if (connection.ref === state.ref && stream.mode === 'QR') return;
  connection.set('ref', state.ref);
  screen.showCode(state.ref);
  stream.set('info', 'PAIRING');
  socket.set('state', 'UNPAIRED');
  stream.set('mode', 'QR');
  clearInterval(rotation);
  rotation = setInterval(nextCode, state.qr_seconds * 1000);
}

async function nextCode() {
  shownCodes += 1;
  if (shownCodes < MAX_QR_CODES) return refreshCode();
  clearInterval(rotation);
  screen.showIdle();
  socket.set('state', 'UNPAIRED_IDLE');
}

/** Requests another QR code. */
export async function refreshCode() {
  await server.persist('ref');
}

commands.refreshQR = () => {
  shownCodes = 0;
  socket.set('state', 'UNPAIRED');
  return refreshCode();
};
socket.logout = () => server.post('logout');
socket.takeover = () => server.post('takeover');
