/**
 * Every spec begins as on a plain system: what it expects must not depend on who runs it. Modes go by the umask, and
 * Node 24 warns on standard error when it reads NODE_EXTRA_CA_CERTS while somebody writes that file.
 */
process.umask(0o022);
delete process.env.NODE_EXTRA_CA_CERTS;
