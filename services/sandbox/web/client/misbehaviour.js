/** How a page goes wrong in real life: it really does all of this. */

const MEGABYTE = 1 << 20;
/** Elements within one another, of which the layout runs out of stack: Chromium ends the renderer. */
const TOO_DEEP = 20_000;

const leaked = [];

/** Stops answering: the page's only thread turns in a circle, for so many milliseconds or for ever. */
function hang({ milliseconds }) {
  const end = milliseconds ? Date.now() + milliseconds : Infinity;
  while (Date.now() < end);
}

/** Takes the renderer down: what the person sees is "Aw, Snap!". */
function crash() {
  let innermost = document.body;
  for (let depth = 0; depth < TOO_DEEP; depth += 1) {
    const inner = document.createElement('div');
    innermost.append(inner);
    innermost = inner;
  }
  return document.body.offsetHeight;
}

/** Takes so many megabytes a second and keeps them, up to a limit. */
function leak({ mb_per_second: speed, limit_mb: limit }) {
  const timer = setInterval(() => {
    leaked.push(new Uint8Array((speed * MEGABYTE) / 10).fill(1));
    if (leaked.length * speed >= limit * 10) clearInterval(timer);
  }, 100);
}

export const misbehaviour = { hang, crash, leak, reload: () => location.reload() };
