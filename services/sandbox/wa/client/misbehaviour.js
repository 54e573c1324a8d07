/** How a page goes wrong in real life: it really does all of this. */

const MEGABYTE = 1 << 20;
/** Elements that no array of V8 can hold: the renderer ends itself. */
const TOO_MANY = 2 ** 27;

const leaked = [];

/** Stops answering: the page's only thread turns in a circle, for so many milliseconds or for ever. */
function hang({ milliseconds }) {
  const end = milliseconds ? Date.now() + milliseconds : Infinity;
  while (Date.now() < end);
}

/** Takes the renderer down, as a page does that runs out of memory. */
function crash() {
  const numbers = [];
  for (let count = 0; count < TOO_MANY; count += 1) numbers.push(count);
}

/** Takes so many megabytes a second and keeps them, up to a limit. */
function leak({ mb_per_second: speed, limit_mb: limit }) {
  const timer = setInterval(() => {
    leaked.push(new Uint8Array((speed * MEGABYTE) / 10).fill(1));
    if (leaked.length * speed >= limit * 10) clearInterval(timer);
  }, 100);
}

export const misbehaviour = { hang, crash, leak, reload: () => location.reload() };
