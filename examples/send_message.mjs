// Sends a WhatsApp text through bisnesctl and waits until it is delivered.
//
//     export BISNES_API_KEY=…   # of the company; `bisnesctl keys create --company 0100` makes one
//     node send_message.mjs --company 0100 --to 60123456789 --idempotency-key order-17 "Your order is ready"
//
// Needs Node.js 18.3 or newer and no packages. Exit codes: 0 delivered, 1 failed, 2 wrong usage, 3 not delivered yet.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const API_URL = process.env.BISNES_API_URL ?? "http://127.0.0.1:3000";
const TIMEOUT_MS = 30_000;
// Longest pause between two attempts, and between two looks at the status.
const MAX_BACKOFF_MS = 30_000;
const MAX_POLL_MS = 5_000;
const USAGE = "node send_message.mjs --company 0100 --to 60123456789 [--idempotency-key KEY] [--wait SECONDS] TEXT";

class SendError extends Error {} // the message failed, or the API refused the request
class NotYet extends Error {} // the time is up before the message was accepted or delivered
class UsageError extends Error {}

function readOptions() {
  const string = { type: "string" };
  const options = { company: string, to: string, "idempotency-key": string, wait: string };
  let read;
  try {
    read = parseArgs({ options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(`${error.message}\nusage: ${USAGE}`);
  }
  const { company, to, wait = "60", "idempotency-key": key = randomUUID() } = read.values;
  if (!company || !to || read.positionals.length !== 1 || !(Number(wait) >= 0)) throw new UsageError(`usage: ${USAGE}`);
  // The API key is a secret: it comes from the environment, because every user of a machine can see command lines.
  const apiKey = process.env.BISNES_API_KEY;
  if (!apiKey) throw new UsageError("set BISNES_API_KEY to an API key of the company");
  const chat = `${encodeURIComponent(company)}/${encodeURIComponent(to)}`;
  return { chat, text: read.positionals[0], key, apiKey, deadline: Date.now() + Number(wait) * 1000 };
}

// Has the message accepted and returns its id.
async function send({ chat, text, key, apiKey, deadline }) {
  const accepted = await call(`${API_URL}/api/v2/messages/text/${chat}`, deadline, {
    method: "POST",
    headers: { "X-Api-Key": apiKey, "Content-Type": "application/json", "Idempotency-Key": key },
    body: JSON.stringify({ message: text }),
  });
  console.log(`accepted as ${accepted.messageId}`);
  return accepted.messageId;
}

// Prints each new status until the message is delivered. To follow many messages, use webhooks (message.ack).
async function follow({ chat, apiKey, deadline }, messageId) {
  let shown = "";
  for (let pause = 250; ; pause = Math.min(pause * 1.5, MAX_POLL_MS)) {
    const url = `${API_URL}/api/v2/messages/${chat}/${messageId}`;
    const message = await call(url, deadline, { headers: { "X-Api-Key": apiKey } });
    if (message.status !== shown) console.log(message.status);
    shown = message.status;
    if (["delivered", "read"].includes(shown)) return;
    if (shown === "failed") throw new SendError(`the message failed: ${message.error?.reason}`);
    if (Date.now() + pause > deadline) throw new NotYet(`the message is still ${shown}`);
    await sleep(pause);
  }
}

// Makes a request and returns the JSON of its answer.
//
// Repeats the request if the server is busy or unavailable, or if the answer was lost. That is safe for a send because
// every attempt has the same Idempotency-Key: if an earlier attempt was accepted, the answer names that message.
async function call(url, deadline, options) {
  for (let backoff = 1000; ; backoff = Math.min(backoff * 2, MAX_BACKOFF_MS)) {
    const { problem, pause = backoff, body } = await attempt(url, options);
    if (body) return body;
    if (Date.now() + pause > deadline) throw new NotYet(problem);
    console.error(`${problem}: next attempt in ${pause / 1000} s`);
    await sleep(pause);
  }
}

// One request: the `body` of a success, or the `problem` for which the request is to be repeated.
async function attempt(url, options) {
  let response, text;
  try {
    response = await fetch(url, { ...options, redirect: "manual", signal: AbortSignal.timeout(TIMEOUT_MS) });
    text = await response.text();
  } catch (error) {
    return { problem: `no answer from ${API_URL} (${error.cause?.code ?? error.name})` };
  }
  if (response.status === 429 || response.status === 503) {
    const seconds = Number.parseInt(response.headers.get("Retry-After"), 10);
    return { problem: `HTTP ${response.status}`, pause: Number.isNaN(seconds) ? undefined : seconds * 1000 };
  }
  return { body: checked(response, text) };
}

// The JSON of a success. Errors have the form {"success": false, "error": "a sentence", "code": "a_word"}.
function checked(response, text) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new SendError(`HTTP ${response.status} without JSON: is ${API_URL} the API?`);
  }
  if (!response.ok) throw new SendError(`HTTP ${response.status} ${body.code}: ${body.error}`);
  return body;
}

let options;
try {
  options = readOptions();
  await follow(options, await send(options));
} catch (error) {
  if (error instanceof NotYet) {
    const again = `Run it again with --idempotency-key ${options.key}: the message is not sent twice.`;
    console.error(`send_message: ${error.message}. ${again}`);
    process.exitCode = 3;
  } else if (error instanceof SendError || error instanceof UsageError) {
    console.error(`send_message: ${error.message}`);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  } else throw error;
}
