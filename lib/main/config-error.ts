/** What a start is refused with for the sake of the configuration; each kind has its exit code. */

/** What is wrong with the configuration, in one line: exit 78. */
export class ConfigError extends Error {
  override readonly name: string = 'ConfigError';
}

/** There is no such address to listen on, or not yet: exit 71, which the unit tries again. */
export class AddressError extends ConfigError {
  override readonly name: string = 'AddressError';
}

/** The command line itself is wrong: exit 64. */
export class UsageError extends ConfigError {
  override readonly name: string = 'UsageError';
}
