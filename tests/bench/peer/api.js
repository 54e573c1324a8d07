'use strict';
// The HTTP side: who asks, by which bot, store the message, queue it, answer 202.
const cluster = require('node:cluster');
const { createHash, randomUUID } = require('node:crypto');
const { Queue } = require('bullmq');
const express = require('express');
const { Pool } = require('pg');
const settings = require('./settings');

const KEY = {
  name: 'key',
  text: 'SELECT company_id FROM api_keys WHERE key_hash = $1 AND NOT revoked',
};
const BOT = {
  name: 'bot',
  text: `SELECT meta_phone_number_id, meta_access_token FROM phone_configs
         WHERE company_id = $1 AND phone_index = $2`,
};
const STORE = {
  name: 'store',
  text: 'INSERT INTO messages (id, company_id, chat_id, phone_index, content) VALUES ($1, $2, $3, $4, $5)',
};

function serve() {
  const pool = new Pool(settings.database);
  const queue = new Queue(settings.queueName, {
    connection: settings.redis,
    defaultJobOptions: {
      attempts: 3,
      backoff: { type: 'exponential', delay: 1000 },
      removeOnComplete: true,
    },
  });
  const first = async (query, ...values) => (await pool.query({ ...query, values })).rows[0];

  async function authenticate(req, res, next) {
    try {
      const hash = createHash('sha256').update(req.get('X-Api-Key') || '').digest();
      const key = await first(KEY, hash);
      if (!key) return res.status(401).json({ success: false, error: 'unknown API key' });
      if (key.company_id !== req.params.companyId) {
        return res.status(403).json({ success: false, error: 'the key belongs to another company' });
      }
      return next();
    } catch (error) {
      return next(error);
    }
  }

  async function sendText(req, res, next) {
    try {
      const { companyId, chatId } = req.params;
      const { message, phoneIndex = 0 } = req.body;
      if (typeof message !== 'string' || !message) {
        return res.status(400).json({ success: false, error: 'message must be a text' });
      }
      const bot = await first(BOT, companyId, phoneIndex);
      if (!bot) return res.status(404).json({ success: false, error: 'no such bot' });
      const id = randomUUID();
      await first(STORE, id, companyId, chatId, phoneIndex, message);
      await queue.add('send-message', {
        id,
        chatId,
        message,
        phoneNumberId: bot.meta_phone_number_id,
        token: bot.meta_access_token,
      });
      return res.status(202).json({ success: true, messageId: id, status: 'queued' });
    } catch (error) {
      return next(error);
    }
  }

  const app = express();
  app.use(express.json());
  app.get('/health', (req, res) => res.json({ success: true }));
  app.post('/api/v2/messages/text/:companyId/:chatId', authenticate, sendText);
  app.listen(settings.port, '127.0.0.1');
}

if (settings.cluster > 1 && cluster.isPrimary) {
  for (let i = 0; i < settings.cluster; i += 1) cluster.fork();
} else {
  serve();
}
