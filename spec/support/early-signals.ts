/** A module that has noded signal itself while its program is loaded, while it locks its files, and after its fork server was started. */
export function signaller(signal: NodeJS.Signals): string {
  return `
    const Module = require('node:module');
    const processes = require('node:child_process');
    const signalled = (object, name, isIt) => {
      const original = object[name];
      object[name] = function (...args) {
        if (isIt(args[0])) process.kill(process.pid, '${signal}');
        return original.apply(this, args);
      };
    };
    signalled(Module, '_load', (file) => /main\\/(ganeti-)?noded$/.test(file));
    signalled(processes, 'spawnSync', (file) => file === 'flock');
    signalled(processes, 'spawn', (file) => /noded-(forker|ganeti)$/.test(file));
  `;
}
