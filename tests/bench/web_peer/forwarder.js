/** Serves the simulator's page as https://web.whatsapp.com, whose name Chromium maps to this port. */

import { readFileSync } from 'node:fs';
import { Agent, request as forward } from 'node:http';
import { createServer } from 'node:https';

const { PORT, KEY, CERTIFICATE, TARGET_PORT, PREFIX } = process.env;
const agent = new Agent({ keepAlive: true });
const BAD_GATEWAY = 502;

createServer({ key: readFileSync(KEY), cert: readFileSync(CERTIFICATE) }, (request, response) => {
  const { method, url } = request;
  const headers = { ...request.headers, host: `127.0.0.1:${TARGET_PORT}` };
  for (const name of ['origin', 'referer']) delete headers[name]; // the simulator refuses other sites' pages
  const options = { agent, host: '127.0.0.1', port: TARGET_PORT, method, path: PREFIX + url, headers };
  const onward = forward(options, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  onward.on('error', () => response.writeHead(BAD_GATEWAY).end());
  request.pipe(onward);
}).listen(Number(PORT), '127.0.0.1');
