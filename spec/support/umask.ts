/** Every spec begins with the umask of a plain system: a mode that it expects must not depend on who runs it. */
process.umask(0o022);
