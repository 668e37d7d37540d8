/**
 * Every number of the program, with its unit and its reason. Those under "configurable" are defaults
 * of keys in noded.conf(5); the others are fixed.
 */

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const minuteMs = 60_000;

/** Defaults of the keys of `[limits]` in noded.conf(5). */
export const defaults = {
  /** Calls that are starting, running or stopping: past that, too_many_calls. */
  maxCalls: 5_000,
  /** Slots for urgent functions, on top of maxCalls: a full node must still power-cycle. */
  maxUrgentCalls: 16,
  /** Open waits of all calls: past that, too_many_waiters. Each costs a few KiB with its socket. */
  maxWaiters: 20_000,
  /** Open connections; past that the kernel's queue and then a closed socket. */
  maxConnections: 12_000,
  /** Bytes of one request body: past that, request_too_large. */
  maxRequestBytes: 16 * MiB,
  /** Bytes of stdout and of stderr, and of every other file that a function writes (RLIMIT_FSIZE). */
  maxOutputBytes: 64 * MiB,
  /** The longest wait of one request; a longer timeout is clamped to it. */
  maxWaitMs: 300_000,
  /** From SIGTERM to SIGKILL of an abort or a deadline, where neither the master nor the manifest says. */
  killAfterMs: 10_000,
  /** How long a result is kept after its end. */
  keepResultMs: 60 * minuteMs,
  /** Ended calls kept: past that the oldest delivered one goes, then the oldest. */
  maxResults: 100_000,
  /** Bytes of the files of ended calls: past that as with maxResults. */
  maxSpoolBytes: GiB,
  /** Free bytes to leave on the spool's filesystem: below, new starts are refused with spool_full. */
  minFreeBytes: 64 * MiB,
} as const;

/** The same for a node of a Ganeti cluster, where some differ (ganeti-noded(8)). */
export const ganetiDefaults = {
  ...defaults,
  /** Quick functions. Calls of the job queue wait for one another, and there are as many as the master has jobs. */
  maxUrgentCalls: 1_000,
  /** Ganeti's own node daemon has no limit; the largest are files for all nodes. */
  maxRequestBytes: 256 * MiB,
  maxOutputBytes: 256 * MiB,
} as const;

/** Fixed limits. */
export const limits = {
  /** Of the files that noded may have open, so many percent for connections: the rest is for calls. */
  connectionPercent: 80,
  /** Nesting of a request, and of a function's output; as deep as any real document, shallow for a scanner's stack. */
  maxDepth: 128,
  /** Calls that one WaitForFunctions may name. */
  maxWaitForCalls: 10_000,
  /** Call IDs and request IDs on the wire, in characters; a call ID is under 80. */
  maxCallIdChars: 128,
  /** The free text `reason` of a start, in characters: it goes into a journal line of under 4096 bytes. */
  maxReasonChars: 512,
  /** The tail of stderr that comes along with an answer. */
  maxStderrTailBytes: 64 * KiB,
  /** Of stdout that is no result, so much stands in the message, where the mistake is seen. */
  maxQuotedStdoutBytes: KiB,
  /** A result up to this size is sent from memory, a larger one is streamed from its file. */
  maxInlineResultBytes: MiB,
  /** The JSON of one line of the log. */
  maxLineBytes: 4_095,
  /** Names and boot IDs that calls read back from the log have in common. */
  sharedTexts: 1_000,
  /** At this size a segment of the log is followed by another. The log is about twice what is kept, and two of them. */
  segmentBytes: 2 * MiB,
  /** Of the log, while it is read back: segments in memory. */
  segmentsInMemory: 4,
  /** A file occupies a whole number of these: pages of a tmpfs, blocks of a disk. */
  blockBytes: 4 * KiB,
  /** What a kept call and a tombstone take in the log, roughly: for how far it is compacted, and for max_spool. */
  keptCallBytes: KiB,
  tombstoneBytes: 384,
  /** A journal of a noded of before the log is a few lines; a longer file is not one of ours. */
  maxJournalBytes: 64 * KiB,
  /** How long a result stays after its first delivery at least, whatever keepResult says. */
  keepDeliveredMs: 5 * minuteMs,
  /** How long a tombstone tells `call_expired` from `unknown_call`. */
  keepTombstoneMs: 24 * 60 * minuteMs,
  /** Tombstones in memory, about 300 bytes each; the oldest goes first. */
  maxTombstones: 100_000,
  /** Waiters settled, or expired calls that go, in one turn of the loop. */
  sliceSize: 64,
  /** Of each turn of the loop, what all requests together may take that go through many calls. */
  sliceMs: 5,
  /** Calls up to so many it goes through at once. */
  sliceFreeItems: 16,
  /** Bytes of a function's output that are checked in one turn of the loop (about 2 ms). */
  scanSliceBytes: 256 * KiB,
  /** setTimeout fires at once beyond 2^31 - 1 ms; timers are re-armed at this many. */
  maxTimerMs: 2 ** 31 - 1,
  /** A timer that is so late has found the process at a standstill: what came in meanwhile is heard first. */
  standstillMs: 10,
  /** The longest duration that a request may name: a hundred years, far from any overflow. */
  maxDurationMs: 100 * 366 * 24 * 60 * minuteMs,
  /** Default and maximum of one page of GET /calls. */
  defaultPageSize: 100,
  maxPageSize: 1_000,
  /** The log lines waiting for a slow reader; more are dropped and counted. */
  maxLogQueueBytes: MiB,
  /** At its end noded waits so long for a log line that is being written, and looks so often. */
  logSettleMs: 1_000,
  logSettlePollMs: 1,
  /** A manifest, noded.conf or a certificate file: far below, unless it is the wrong file. */
  maxConfigBytes: MiB,
  /**
   * Of a run directory on a disk: so long an urgent function waits for it before it starts, and again before its end
   * is told, and any signal for the line that says who sent it.
   */
  diskGraceMs: 250,
  /** So long beyond its time an answer waits for a disk, if it gives out the ID of a call or forgets one. */
  syncGraceMs: 500,
  /** A fire-and-forget start is answered once the process runs, or after this with the call still starting. */
  startWaitMs: 5_000,
  /** SIGKILL was sent so long ago and the process is still there (uninterruptible sleep): the log says so, again and again. */
  unkillableMs: 15_000,
  /** An examined output up to this size is kept for the answer that follows at once. */
  maxRecentBytes: 16 * KiB,
  /** How often the free room of the spool's filesystem is asked for. */
  freeCheckMs: 250,
  /** With less free a call has no room for its lines and its output, whatever min_free says; an urgent one has no files. */
  leastFreeBytes: 128 * KiB,
  /** While something happens, how often it is looked how late the loop comes; and after how long without anything no more. */
  lagPollMs: 10,
  lagQuietMs: 1_000,
  /** How often stderr is looked at for waits with wake_on_stderr. */
  stderrPollMs: 100,
  /** At the end: how long an answer may take to leave, and how often that is looked at. */
  closeGraceMs: 5_000,
  closePollMs: 10,
  /** In a Ganeti cluster, how long running functions are waited for: daemon-util(8) sends SIGKILL after 30 s. */
  ganetiDrainMs: 25_000,
  /** A logger(1) that has ended is started again after this. */
  syslogRetryMs: 10_000,
  /** How often the log names those who are still awaited while noded stops. */
  stopReportMs: 10_000,
  /** Looking through /proc for what an ended function left behind: rounds before it is called unkillable. */
  sweepRounds: 50,
  /** Looks in a row that must find nothing: a process in the middle of an exec has no environment, and a list that is read while it changes may miss one. */
  sweepLooks: 2,
  /** The same where something may have been between fork and exec. */
  sweepLooksAtStart: 4,
  /** The pause between two looks, and as a multiple of what the last look took: at most a tenth of one core. */
  sweepPauseMs: 50,
  sweepPauseFactor: 9,
  /** The pause after a look that could not be made, for want of descriptors or memory; and after how many in a row nothing is looked for any more. */
  sweepRetryMs: 1000,
  sweepRetries: 60,
  /** Output that cannot be looked at for want of descriptors or memory: looks in all, and the pause between two. */
  outputTries: 100,
  outputRetryMs: 100,
  /** The log of an earlier noded that cannot be read for want of them: the pause before the next try. */
  rereadMs: 1_000,
  /** How long ago a call may have ended whose fork server died before it had killed what the call left behind. */
  leftoverMemoryMs: 10_000,
  /** How long getent(1) may look for a function's user: nothing else is done meanwhile. */
  userLookupMs: 10_000,
  /** A fork server that was started must listen by then: noded-ganeti loads all of Ganeti, perhaps from a cold disk. */
  forkServerReadyMs: 30_000,
  /** One that is there and says nothing by then is taken for dead, and so long one is looked for; and the pause before the next try. */
  forkServerStartMs: 5_000,
  forkServerRetryMs: 500,
  /** A program that is being written (ETXTBSY, a package upgrade) is started again after this, so many times in all. */
  busyProgramPauseMs: 50,
  busyProgramTries: 10,
  /** How long a pipe may stay open after the end of an unspooled function: a grandchild may hold it for ever. */
  pipeDrainMs: 100,
  /** The path of a socket, which the kernel takes into 108 bytes with a zero at its end (unix(7)). */
  maxSocketPathBytes: 107,
  /** So run_dir may have so many, with `/forker.sock` behind it. */
  maxRunDirBytes: 95,
  /** Between two looks whether the lock file of the run directory is still there. */
  lockLookMs: 60_000,
  /** Output kept in memory of an urgent function that had no spool. */
  maxUnspooledBytes: 64 * KiB,

  /** TLS handshake (Node's default is 120 s) and handshakes under way: what strangers may cost. */
  handshakeTimeoutMs: 5_000,
  maxHandshakes: 256,
  /** Of these, from one address, or one IPv6 network of 64 bits. */
  maxHandshakesPerAddress: 64,
  /** And from addresses from which nobody has shown a good certificate yet: the rest is kept for the others. */
  maxStrangerHandshakes: 192,
  /** Addresses that are remembered for that. */
  maxKnownAddresses: 1_024,
  /** What strangers cause in the log: so many lines in such a time, one for each of them. */
  strangerLogLines: 20,
  strangerLogMs: 10_000,
  /** The header, the whole request, and how often Node looks. */
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  connectionsCheckMs: 1_000,
  /** An idle keep-alive connection; longer than any load balancer's. */
  keepAliveMs: 75_000,
  /** TCP keepalive: a vanished peer is noticed within about 40 s. */
  tcpKeepAliveMs: 30_000,
  /** A reader of a large result that takes nothing for so long is cut off. */
  stalledReaderMs: 60_000,
  maxHeaderBytes: 8 * KiB,
  maxHeaders: 64,
} as const;
