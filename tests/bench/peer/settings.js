'use strict';
// The addresses of all servers, from the environment. Both processes read them.

function redisAt(address) {
  const url = new URL(address);
  if (url.protocol === 'unix:') return { path: url.pathname };
  return { host: url.hostname, port: Number(url.port || 6379) };
}

module.exports = {
  queueName: 'meta-messages',
  port: Number(process.env.PORT),
  graph: process.env.GRAPH_URL,
  cluster: Number(process.env.CLUSTER || 1),
  concurrency: Number(process.env.CONCURRENCY || 10),
  redis: redisAt(process.env.REDIS_URL),
  database: { connectionString: process.env.DATABASE_URL, max: 10 },
};
