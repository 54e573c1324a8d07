/** The globals of the module loader, which wa-js uses: `require`, `__d`, `importNamespace`. */

import { modules } from './modules.js';

/** Defines the globals. */
export function provide() {
  const modulesMap = Object.fromEntries(Object.keys(modules).map((name) => [name, { factory() {} }]));
  window.ErrorGuard = { skipGuardGlobal() {} };
  window.importNamespace = (name) => modules[name];
  window.__d = () => {};
  window.require = (name) => (name === '__debug' ? { modulesMap } : modules[name]);
}
