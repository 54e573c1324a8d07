/** Faults of pages in real life. The page really hangs, crashes and leaks. */

const MEGABYTE = 1 << 20;
/** Nested elements whose layout overflows the stack: Chromium ends the renderer. */
const CRASH_DEPTH = 20_000;
const LEAK_INTERVAL_MS = 100;

const leaked = [];

/** Blocks the page's only thread for N milliseconds, or for ever. */
function hang({ milliseconds }) {
  const end = milliseconds ? Date.now() + milliseconds : Infinity;
  while (Date.now() < end);
}

/** Crashes the renderer: people see "Aw, Snap!". */
function crash() {
  let innermost = document.body;
  for (let depth = 0; depth < CRASH_DEPTH; depth += 1) {
    const inner = document.createElement('div');
    innermost.append(inner);
    innermost = inner;
  }
  return document.body.offsetHeight;
}

/** Allocates N megabytes a second, up to a limit, and never frees them. */
function leak({ mb_per_second: speed, limit_mb: limit }) {
  const bytes = (speed * MEGABYTE * LEAK_INTERVAL_MS) / 1000;
  const timer = setInterval(() => {
    leaked.push(new Uint8Array(bytes).fill(1));
    if (leaked.length * bytes >= limit * MEGABYTE) clearInterval(timer);
  }, LEAK_INTERVAL_MS);
}

export const faults = { hang, crash, leak, reload: () => location.reload() };
