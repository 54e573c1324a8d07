/**
 * WhatsApp Web in the way of wppconnect-server, on the same library: a POST waits until WhatsApp's server has the text.
 *
 * Each request takes wppconnect-server's steps: compare the token by bcrypt, ask the page whether it is connected, look
 * the number up, send, and read the message back. Nothing is stored, and nothing is sent again.
 */

import { create } from '@wppconnect-team/wppconnect';
import bcrypt from 'bcrypt';
import express from 'express';

const { PORT, CHROMIUM, FORWARDER_PORT, PROFILE, SECRET } = process.env;
const SESSION = 'bench';
const HASH_ROUNDS = 10;
/** The arguments of Chromium that wppconnect-server has by default. */
const BROWSER_ARGUMENTS = [
  '--disable-web-security', '--no-sandbox', '--aggressive-cache-discard', '--disable-cache', '--disable-application-cache',
  '--disable-offline-load-stale-cache', '--disk-cache-size=0', '--disable-background-networking',
  '--disable-default-apps', '--disable-extensions', '--disable-sync', '--disable-dev-shm-usage', '--disable-gpu',
  '--disable-translate', '--hide-scrollbars', '--metrics-recording-only', '--mute-audio', '--no-first-run',
  '--safebrowsing-disable-auto-update', '--ignore-certificate-errors',
];
/** The events to which wppconnect-server listens by default. */
const LISTENERS = [
  'onMessage', 'onAnyMessage', 'onIncomingCall', 'onAck', 'onPresenceChanged', 'onParticipantsChanged',
  'onReactionMessage', 'onRevokedMessage', 'onPollResponse', 'onUpdateLabel', 'onStateChange',
];

const hash = await bcrypt.hash(SESSION + SECRET, HASH_ROUNDS);
/** The library's client, once its page works. */
const clients = {};

async function authenticate(request, response, next) {
  const [, token = ''] = (request.headers.authorization ?? '').split(' ');
  if (token === hash && await bcrypt.compare(request.params.session + SECRET, token)) return next();
  return response.status(401).json({ error: 'Check that the Session and Token are correct' });
}

async function checkNumber(request, response, next) {
  await clients[SESSION].isConnected();
  const profile = await clients[SESSION].checkNumberStatus(`${request.body.phone}@c.us`);
  if (!profile?.numberExists) return response.status(400).json({ status: 'Connected', message: 'unknown number' });
  request.body.phone = profile.id._serialized;
  return next();
}

async function sendMessage(request, response) {
  const { phone, message, options = {} } = request.body;
  const sent = await clients[SESSION].sendText(phone, message, options);
  response.status(201).json({ status: 'success', response: [sent], mapper: 'return' });
}

/** Passes a rejected promise on to Express, which answers 500. */
const handled = (step) => async (request, response, next) => {
  try {
    await step(request, response, next);
  } catch (error) {
    next(error);
  }
};

const app = express();
app.use(express.json({ limit: '50mb' }));
app.get('/token', (request, response) => response.json({ token: hash }));
app.get('/ready', (request, response) => response.status(clients[SESSION] ? 200 : 503).end());
app.post('/api/:session/send-message', handled(authenticate), handled(checkNumber), handled(sendMessage));
app.listen(Number(PORT), '127.0.0.1');

const connected = await create({
  session: SESSION,
  headless: true,
  logQR: false,
  updatesLog: false,
  disableWelcome: true,
  autoClose: 0,
  whatsappVersion: '',
  folderNameToken: PROFILE,
  browserArgs: [...BROWSER_ARGUMENTS, `--host-resolver-rules=MAP web.whatsapp.com:443 127.0.0.1:${FORWARDER_PORT}`],
  puppeteerOptions: { executablePath: CHROMIUM, userDataDir: PROFILE },
});
for (const listen of LISTENERS) await connected[listen]?.(() => {});
clients[SESSION] = connected;
