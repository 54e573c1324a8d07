/** The module loader's globals, which wa-js looks for: `require`, `__d`, `importNamespace`. */

import { modules } from './modules.js';

/** Makes the modules known. */
export function provide() {
  const modulesMap = Object.fromEntries(Object.keys(modules).map((name) => [name, { factory() {} }]));
  window.ErrorGuard = { skipGuardGlobal() {} };
  window.importNamespace = (name) => modules[name];
  window.__d = () => {};
  window.require = (name) => (name === '__debug' ? { modulesMap } : modules[name]);
}
