// Receives bisnesctl's webhooks: proves that each is genuine, stores each event once, and answers at once.
//
//     export WEBHOOK_SECRET=…   # register.py prints it
//     node receiver.mjs
//
// Needs Node.js 18 or newer and no packages. Run one process of it.
import { createHmac, timingSafeEqual } from "node:crypto";
import fs from "node:fs";
import { createServer } from "node:http";

// How far X-Webhook-Timestamp may be from this machine's clock.
const TOLERANCE_MS = 300_000;
const MAX_BODY_BYTES = 4_000_000;
const FILE = process.env.WEBHOOK_FILE ?? "webhook-events.jsonl";
const PORT = Number(process.env.WEBHOOK_PORT ?? 8080);
const SECRET = process.env.WEBHOOK_SECRET;

// Your code. It runs after the answer; work that must survive a crash reads FILE instead.
function handle({ event, payload }) {
  if (event === "message") console.log(`${payload.chatId} says: ${payload.body}`);
  else if (event === "message.ack") console.log(`message ${payload.id} is ${payload.status}`);
  else console.log(`event ${event}`);
}

// Why a call is refused; undefined if it is genuine. `body`: the bytes as they came, never JSON that was written again.
//
// The signature covers the body alone. So the age refuses calls that somebody recorded and plays back as they are;
// against those with a new timestamp, the event's id in the signed body helps: it is known already.
function refusal(body, headers, now) {
  const expected = Buffer.from(createHmac("sha512", SECRET).update(body).digest("hex"));
  const isExpected = (given) => given.length === expected.length && timingSafeEqual(given, expected);
  // While a secret is being replaced, the second header is signed with the one before.
  const given = ["x-webhook-hmac", "x-webhook-hmac-previous"].map((name) => Buffer.from(headers[name] ?? ""));
  if (!given.some(isExpected)) return "wrong signature";
  const sent = headers["x-webhook-timestamp"] ?? "";
  if (!/^[0-9]{1,15}$/.test(sent) || Math.abs(now - Number(sent)) > TOLERANCE_MS)
    return "the timestamp is missing or too far from this machine's clock";
}

// The events that came, one a line in FILE, and their ids. Events may come more than once, always with one id.
class Events {
  #ids = new Set();
  #file = fs.openSync(FILE, "a+", 0o600);

  constructor() {
    const text = fs.readFileSync(FILE, "utf8");
    // A line that a crash cut off was never answered with 200, so its event comes again.
    if (text && !text.endsWith("\n")) fs.writeSync(this.#file, "\n");
    for (const line of text.split("\n")) {
      try {
        this.#ids.add(JSON.parse(line).id);
      } catch {
        // an empty line, or one that was cut off
      }
    }
  }

  // Stores an event durably; false if it is there already.
  add(event) {
    if (this.#ids.has(event.id)) return false;
    fs.writeSync(this.#file, `${JSON.stringify(event)}\n`);
    fs.fdatasyncSync(this.#file);
    this.#ids.add(event.id);
    return true;
  }
}

async function readBody(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

// The status and the text of the answer. Any status but 2xx makes bisnesctl try again later.
async function receive(request, events) {
  if (request.method !== "POST" || request.url !== "/webhooks") return [404, "no such address"];
  const body = await readBody(request);
  if (!body) return [413, "too large"];
  const reason = refusal(body, request.headers, Date.now());
  if (reason) {
    console.error(`refused a call from ${request.socket.remoteAddress}: ${reason}`);
    return [401, reason];
  }
  const event = JSON.parse(body);
  if (!events.add(event)) return [200, "known already"];
  setImmediate(handle, event);
  return [200, "stored"];
}

if (!SECRET) {
  console.error("receiver: set WEBHOOK_SECRET to the webhook's secret, which register.py prints");
  process.exit(1);
}
const events = new Events();
createServer(async (request, response) => {
  let status, text;
  try {
    [status, text] = await receive(request, events);
  } catch (error) {
    console.error(`a call failed: ${error.message}`);
    [status, text] = [500, "failed"];
  }
  response.writeHead(status, { "Content-Type": "text/plain", ...(status === 413 && { Connection: "close" }) }).end(text);
}).listen(PORT, "127.0.0.1", () => console.log(`Listening on http://127.0.0.1:${PORT}/webhooks`));
