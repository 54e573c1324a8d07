'use strict';
// The sending side: take a job, call Graph, write down what became of it.
const { Worker } = require('bullmq');
const { Pool } = require('pg');
const settings = require('./settings');

const SENT = {
  name: 'sent',
  text: "UPDATE messages SET status = 'sent', external_id = $2, updated_at = now() WHERE id = $1",
};

const pool = new Pool(settings.database);

async function callGraph({ phoneNumberId, token, chatId, message }) {
  const response = await fetch(`${settings.graph}/v26.0/${phoneNumberId}/messages`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({
      messaging_product: 'whatsapp',
      recipient_type: 'individual',
      to: chatId,
      type: 'text',
      text: { body: message },
    }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`Graph answered ${response.status}: ${JSON.stringify(answer)}`);
  return answer.messages[0].id;
}

async function send(job) {
  const externalId = await callGraph(job.data);
  await pool.query({ ...SENT, values: [job.data.id, externalId] });
}

const worker = new Worker(settings.queueName, send, {
  connection: settings.redis,
  concurrency: settings.concurrency,
});
worker.on('error', console.error);
worker.on('failed', (job, error) => console.error(error.message));
process.once('SIGTERM', async () => {
  await worker.close();
  process.exit(0);
});
