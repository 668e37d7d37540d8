/*
 * noded-forker: starts, reaps and kills the function processes of noded (DESIGN.md section 7).
 *
 * Why it exists. Node forks its whole self for each start: a millisecond of event loop at 60 MB of
 * resident memory, 20 ms at 600 MB. And what Node has started only Node can reap, so a crash of the
 * daemon would lose every running function. This process is small, so a start costs the same whatever
 * the daemon holds, and it goes on when the daemon is gone: functions finish, their ends are journaled,
 * and the next daemon connects and carries on. Erlang's erl_child_setup does the same for the BEAM.
 *
 * Use: noded-forker RUN_DIR. It listens on RUN_DIR/forker.sock and takes one daemon at a time; a byte on
 * descriptor 3, if that is open, says that it listens. Every frame is a little-endian u32 length of what
 * follows, one byte of type, and the type's body:
 *
 *   daemon to forker                         forker to daemon
 *   S start   key, flags, user, …, accepted  N name     of a function that needs no program; only noded-ganeti has any
 *   P part    key, bytes: arguments of the   W welcome  version, pid: the NAME and LIVE frames are out
 *             next start, if they are too    L live     key, pid, start time, moment: a call that runs
 *             large for it and have no file  A started  key, pid, start time, moment
 *   K signal  key, 1 TERM+CONT | 2 KILL      O output   key, stream, bytes: of a call without files
 *   G segment number: of the log             E ended    key, kind, code, stage, moment, usage, sizes, output
 *   Q quit                                   B busy     key: its program is being written; start it again
 *                                            G segment  number: that is appended to now, and no older one
 *                                            M message  text for the daemon's log
 *
 * A moment is two u64 of ms: by the wall clock, and since boot; version 2 had the first only, and none in LIVE and
 * STARTED; version 3 made a journal of each call and knew no segments. A malformed frame closes that connection and
 * harms no call. Nothing is allocated but starts that wait for a disk: a call is a slot of a fixed table. Facts go to
 * the log first and to the daemon second, so a report that cannot be delivered is never lost.
 *
 * Most calls are short and write little, and files are what such a call costs most. So stdout and stderr
 * get their names in the spool only when somebody may want to look: once the call has run for SETTLE_MS,
 * or if in the end they are too much for a line of the log. What is little goes into its `ended` line,
 * and to the daemon in the same report. The first line of a call is appended here too, as it came along: it is
 * on file before the process starts. Its start is, before the daemon hears of it: most often in one write with its end.
 *
 * All that may wait for the disk of a run directory is done by a second thread there, one thing after the other ("jobs"
 * below): this one goes on to reap, to signal and to start what needs no file. In memory it does all that itself.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Filesystems in memory, as statfs(2) has them. */
#define TMPFS 0x01021994u
#define RAMFS 0x858458f6u

#ifndef NODED_MAX_CALLS
#define NODED_MAX_CALLS 16384
#endif

enum {
  VERSION = 4,
  KEY = 16,                     /* hexadecimal digits */
  MAX_CALLS = NODED_MAX_CALLS,  /* slots; about 100 bytes each, touched when used */
  HASH = 32768,                 /* a power of two over MAX_CALLS */
  MAX_FRAME = 128 * 1024,       /* arguments up to 64 KiB come inline; larger ones are in a file */
  MAX_ENV = 32,
  FILE_NAME = 6 + KEY + 6,      /* calls/KEY.args */
  IN_SIZE = 2 * MAX_FRAME,
  OUT_SIZE = 4 * MAX_FRAME,
  OUT_RESERVE = 2 * MAX_FRAME,  /* room that one event may need at most */
  MAX_UNSPOOLED = 64 * 1024 + 1, /* output sent back of a call without files, per stream; one byte over the limit shows */
  MAX_PARTS = 256 * 1024 * 1024, /* arguments that come in parts; far over any max_request */
  FRAMES_A_TURN = 32,           /* then others are heard: about 15 ms of starts */
  MAX_SPARED = 4096,            /* orphans that are to be left alone */
  SOFT_NOFILE = 1024,           /* what select(2) can take */
  MAX_LINE = 4095,              /* JSON of a line of the log */
  MAX_STARTED = 256,            /* JSON of the line of a start */
  LINE_HEAD = 8 + 1 + KEY + 1,  /* checksum and key of a line, before its JSON */
  MAX_NOTED = 512,              /* output that may go into the log, both streams together: noded keeps it in memory */
  MAX_YOUNG = 256,              /* more of them are settled at once */
  SETTLE_MS = 20,               /* a call that runs for longer gets its files and costs no descriptors any more */
  RENAME_MS = 1000,             /* until what could not have a name is tried again */
  IDLE_MS = 10 * 60 * 1000,     /* alone and without calls for so long: leave */
  NAMES_MS = 1000,              /* between two looks for our names in the run directory, while alone */
  HOLD_MS = 1,                  /* most calls are short: start and end in one report wake the daemon once */
  SWEEP_MS = 10,                /* between two looks for orphans, at least */
  STUBBORN_SWEEPS = 100,        /* so many looks in a row killed something: it cannot be killed, or forks as fast */
  STUBBORN_SWEEP_MS = 100,
  BLIND_SWEEPS = 20,            /* so many looks in a row could not be made: nothing waits for them any more */
  BLIND_SWEEP_MS = 1000,
  SAY_AGAIN_MS = 60 * 1000,     /* what was said and passed is not said again sooner */
  RETRY_MS = 10                 /* after an error of the system that must pass */
};

enum job_kind { JOB_OPEN, JOB_STARTED, JOB_NAME, JOB_NAME_AGAIN, JOB_END, JOB_NOT_STARTED, JOB_SEGMENT };

enum { F_LEAVE_RUNNING = 1, F_USER = 2, F_NICE = 4, F_UNSPOOLED = 8, F_INLINE = 16, F_PARTS = 32, F_LAST_TRY = 64 };
enum { STAGE_NONE, STAGE_OPEN, STAGE_SPAWN, STAGE_EXEC, STAGE_JOURNAL };
enum { KIND_EXITED = 0, KIND_SIGNALED = 1, KIND_NOT_STARTED = 2 };

/*
 * Free: not in use. Opening: waits for its files. Running: its leader has not been reaped. Ended: reaped, descendants
 * may be left.
 */
enum state { FREE, OPENING, RUNNING, ENDED };

/* An instant in ms: for display, and by the clock that ages and order go by, because nobody sets it. */
struct moment { int64_t wall, boot; };

struct usage { uint64_t user_us, system_us, max_rss_kib; };

/* How a leader ended. */
struct finish { int code; bool signaled; struct moment at; struct usage usage; };

struct call {
  char key[KEY + 1];
  uint8_t flags;
  uint8_t state;
  uint8_t quiet;        /* looks in a row that found nothing of it */
  bool unwritten;       /* its start is not in the log yet */
  bool busy;            /* it has a job that is under way */
  uint8_t after;        /* and these, one bit each, are to come after it */
  uint8_t wanted;       /* opening: the hardest signal that is to be sent when it runs */
  pid_t pid;            /* 0 while it is opening */
  uint64_t start_time;  /* field 22 of /proc/PID/stat */
  struct moment started;
  int out, err;         /* without a name: memory files of a call without files, or the output of a young call; else -1 */
  int64_t began;
  struct finish finish;
  int32_t next_young, previous_young;
  int32_t next_pid, next_key; /* chains of the two indexes; next_key also of the free list */
  int32_t next_ended;         /* chain of those that may have left something behind */
};

/* A start as it was asked for; the strings point into the frame. */
struct start {
  char key[KEY + 1];
  uint8_t flags;
  uint32_t uid, gid;
  int32_t nice;
  uint64_t fsize;
  char *program;
  char *env[MAX_ENV + 1];
  const uint8_t *args;
  uint32_t args_size;
  const uint8_t *accepted; /* the first line of the call, with its checksum; empty if that is in the log, or is not to be */
  uint16_t accepted_size;
};

static struct call calls[MAX_CALLS];
static int32_t by_pid[HASH], by_key[HASH], free_calls;
static int live_count;
static int32_t ended_calls = -1;
static int32_t first_young = -1, last_young = -1; /* in the order of their starts */

static struct { pid_t pid; uint64_t start_time; } spared[MAX_SPARED];
static int spared_count;
static bool ever_left_running;

static uint8_t in[IN_SIZE], out[OUT_SIZE];
static size_t in_size, out_size;
static const char *run_dir_path;
static int run_dir, listener = -1, lock_file = -1, calls_dir = -1, log_dir = -1, log_file = -1, daemon_fd = -1, child_signals;
static struct stat socket_name, lock_name, calls_name, log_name; /* as they were: somebody may remove them */
static char boot_id[40];
static bool reset_oom, quitting;
static bool reap_again; /* reaping stopped for lack of room, and the signal has been read */
static int64_t sweep_at = -1, reap_at = -1, rename_at = -1, idle_since;
static int64_t sweep_pause = SWEEP_MS;
static bool on_disk; /* the run directory: then there is a second thread */
static int jobs_open;
static int64_t names_at = -1; /* alone: when to look whether they are there */
static int64_t hold_until = -1; /* there is nothing to send but starts, and they wait for their ends until then */
static int killing_sweeps; /* looks in a row that killed something */
static int blind_sweeps; /* looks in a row that could not be made */
static rlim_t soft_nofile;
static int young_count, max_young; /* each has two descriptors */
static int own_nice;

/* Signals that this process ignores; exec would pass that on. */
static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2, SIGXFSZ};

/* Arguments that come in parts; -1 if there are none. An error waits for their start, which reports it. */
static struct { char key[KEY + 1]; int fd; uint64_t size; int error; } parts = {.fd = -1};

/* ---- small things ---- */

static int64_t monotonic_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t ms_of(struct timespec time) { return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000; }

static struct moment moment_now(void) {
  struct timespec wall, boot;
  clock_gettime(CLOCK_REALTIME, &wall);
  clock_gettime(CLOCK_BOOTTIME, &boot);
  return (struct moment){ms_of(wall), ms_of(boot)};
}

/* Reads a small file of /proc; the text ends with NUL. */
static ssize_t read_small(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd == -1) return -1;
  ssize_t got = read(fd, text, size - 1);
  close(fd);
  if (got >= 0) text[got] = '\0';
  return got;
}

static const char *signal_name(int number) {
  /* As Node names them: ABRT not IOT, IO not POLL. */
  static const char *const names[] = {"", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS"};
  static char name[24];
  if (number > 0 && number < (int)(sizeof names / sizeof *names)) snprintf(name, sizeof name, "SIG%s", names[number]);
  else snprintf(name, sizeof name, "SIG%d", number);
  return name;
}

/* ---- frames out: a buffer that is written as far as the daemon takes it ---- */

static void put(const void *bytes, size_t size) {
  memcpy(out + out_size, bytes, size);
  out_size += size;
}
static void put_u8(uint8_t value) { put(&value, 1); }
static void put_u32(uint32_t value) {
  uint8_t b[4] = {value & 255, value >> 8 & 255, value >> 16 & 255, value >> 24};
  put(b, 4);
}
static void put_u64(uint64_t value) {
  put_u32((uint32_t)value);
  put_u32((uint32_t)(value >> 32));
}

/* Begins a frame; false if nobody is there to read it. Callers check out_room() before an event. */
static bool begin_frame(char type, size_t body) {
  if (daemon_fd == -1 || out_size + 5 + body > OUT_SIZE) return false;
  if (type != 'A') hold_until = -1;
  else if (out_size == 0) hold_until = monotonic_ms() + HOLD_MS;
  put_u32((uint32_t)(1 + body));
  put_u8((uint8_t)type);
  return true;
}

static bool out_room(void) { return daemon_fd == -1 || out_size + OUT_RESERVE <= OUT_SIZE; }

enum { MAX_MESSAGE = 512 };

/* On the thread of the jobs: where what they say is kept until they are done. */
static __thread char *said_by_job;

__attribute__((format(printf, 1, 2))) static void message(const char *format, ...) {
  char text[MAX_MESSAGE];
  va_list list;
  va_start(list, format);
  int size = vsnprintf(text, sizeof text, format, list);
  va_end(list);
  if (size < 0) return;
  if ((size_t)size >= sizeof text) size = sizeof text - 1;
  if (said_by_job != NULL) { /* the frames are the other thread's */
    memcpy(said_by_job, text, (size_t)size + 1);
    return;
  }
  if (begin_frame('M', (size_t)size)) put(text, (size_t)size);
}

static void write_starts(void);

/* Writes what the daemon takes. An error is left for the next read: what the daemon sent before it died still counts. */
static void flush_out(void) {
  size_t at = 0;
  write_starts();
  while (at < out_size) {
    ssize_t sent = send(daemon_fd, out + at, out_size - at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == -1 && errno == EINTR) continue;
    if (sent == -1 && errno != EPIPE && errno != ECONNRESET) break; /* EAGAIN; or ENOBUFS, which must pass */
    if (sent == -1) at = out_size; /* nobody will read it; it is in the log */
    else at += (size_t)sent;
  }
  memmove(out, out + at, out_size - at);
  out_size -= at;
}

static void give_call(struct call *call, enum job_kind kind);

static void drop_parts(void) {
  if (parts.fd != -1) close(parts.fd);
  parts.fd = -1;
  parts.key[0] = '\0';
}

static void drop_daemon(void) {
  if (daemon_fd != -1) close(daemon_fd);
  daemon_fd = -1;
  in_size = out_size = 0;
  drop_parts();
  idle_since = names_at = monotonic_ms();
}

/* ---- the table of calls: by pid and by key ---- */

static uint32_t hash_pid(pid_t pid) { return ((uint32_t)pid * 2654435761u) >> 17 & (HASH - 1); }
static uint32_t hash_key(const char *key) {
  uint32_t hash = 2166136261u;
  for (int i = 0; i < KEY; i++) hash = (hash ^ (uint8_t)key[i]) * 16777619u;
  return hash & (HASH - 1);
}

static struct call *call_of_pid(pid_t pid) {
  for (int32_t i = by_pid[hash_pid(pid)]; i != -1; i = calls[i].next_pid)
    if (calls[i].pid == pid) return &calls[i];
  return NULL;
}
static struct call *call_of_key(const char *key) {
  for (int32_t i = by_key[hash_key(key)]; i != -1; i = calls[i].next_key)
    if (memcmp(calls[i].key, key, KEY) == 0) return &calls[i];
  return NULL;
}

static void make_table(void) {
  memset(by_pid, -1, sizeof by_pid);
  memset(by_key, -1, sizeof by_key);
  /* The free list runs through next_key; untouched slots are all beyond `free_calls`. */
  free_calls = 0;
}

static void forget_oldest_ended(void);

static struct call *new_call(void) {
  /* What an ended call left behind may not be seen for long: a new one does not wait for that. */
  if (free_calls >= MAX_CALLS) forget_oldest_ended();
  if (free_calls >= MAX_CALLS) return NULL;
  /* next_key of a slot that was never used is 0: then the slot after it is the next free one. */
  struct call *call = &calls[free_calls];
  free_calls = call->next_key != 0 ? call->next_key - 1 : free_calls + 1;
  return call;
}

static void index_key(struct call *call) {
  call->next_key = by_key[hash_key(call->key)];
  by_key[hash_key(call->key)] = (int32_t)(call - calls);
}

static void index_pid(struct call *call) {
  call->next_pid = by_pid[hash_pid(call->pid)];
  by_pid[hash_pid(call->pid)] = (int32_t)(call - calls);
}

static void give_back(struct call *call) {
  int32_t at = (int32_t)(call - calls);
  call->state = FREE;
  call->next_key = free_calls + 1;
  free_calls = at;
}

static void drop_call(struct call *call) {
  int32_t at = (int32_t)(call - calls), *link;
  if (call->pid != 0) {
    for (link = &by_pid[hash_pid(call->pid)]; *link != at; link = &calls[*link].next_pid) {}
    *link = call->next_pid;
  }
  for (link = &by_key[hash_key(call->key)]; *link != at; link = &calls[*link].next_key) {}
  *link = call->next_key;
  give_back(call);
}

static void forget_oldest_ended(void) {
  int32_t *oldest = NULL;
  for (int32_t *link = &ended_calls; *link != -1; link = &calls[*link].next_ended)
    if (!calls[*link].busy) oldest = link;
  if (oldest == NULL) return;
  struct call *call = &calls[*oldest];
  *oldest = call->next_ended;
  drop_call(call);
}

/* The file has gone: nobody knows what the function wrote, and that must not pass for nothing. */
#define SIZE_UNKNOWN UINT64_MAX

/* ---- the spool: <key>.args, .out and .err ---- */

static const char *file_name(char name[FILE_NAME], const char *key, const char *kind) {
  snprintf(name, FILE_NAME, "calls/%.*s.%s", KEY, key, kind);
  return name;
}

static int open_file(const char *key, const char *kind, int flags) {
  char name[FILE_NAME];
  return openat(run_dir, file_name(name, key, kind), flags | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static void unlink_file(const char *key, const char *kind) {
  char name[FILE_NAME];
  unlinkat(run_dir, file_name(name, key, kind), 0);
}

/* It has names early where the spool's filesystem has no nameless files. */
static void unlink_output(const char *key) {
  unlink_file(key, "out");
  unlink_file(key, "err");
}

static uint64_t file_size(const char *key, const char *kind) {
  char name[FILE_NAME];
  struct stat stat;
  return fstatat(run_dir, file_name(name, key, kind), &stat, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)stat.st_size : SIZE_UNKNOWN;
}

static bool write_all(int fd, const uint8_t *bytes, size_t size) {
  for (size_t at = 0; at < size;) {
    ssize_t wrote = write(fd, bytes + at, size - at);
    if (wrote == 0) errno = ENOSPC;
    if (wrote <= 0) return false;
    at += (size_t)wrote;
  }
  return true;
}

/* ---- the log: lines of a checksum, a key and JSON (doc/formats.md, "The log") ---- */

static uint32_t crc_table[256];

static void make_crc_table(void) {
  for (uint32_t i = 0; i < 256; i++) {
    crc_table[i] = i;
    for (int bit = 0; bit < 8; bit++) crc_table[i] = crc_table[i] >> 1 ^ (crc_table[i] & 1 ? 0xedb88320u : 0);
  }
}

/* As in zlib, gzip and PNG. */
static uint32_t crc32(const char *bytes, size_t size) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; i++) crc = crc >> 8 ^ crc_table[(crc ^ (uint8_t)bytes[i]) & 255];
  return ~crc;
}

/* Lines under way; there is room for two of any length. They begin with a newline: what somebody else could not finish must cost that line alone. */
struct lines { char text[1 + 2 * (LINE_HEAD + MAX_LINE + 1)]; size_t size, at; /* of the line that is under way */ };

static void begin_lines(struct lines *lines) {
  lines->text[0] = '\n';
  lines->size = 1;
}

__attribute__((format(printf, 3, 4))) static void begin_line(struct lines *lines, const char *key, const char *format, ...) {
  va_list list;
  lines->at = lines->size;
  lines->size += (size_t)sprintf(lines->text + lines->size, "%8s %s ", "", key);
  va_start(list, format);
  lines->size += (size_t)vsnprintf(lines->text + lines->size, MAX_LINE, format, list);
  va_end(list);
}

static void end_line(struct lines *lines) {
  char checksum[9];
  snprintf(checksum, sizeof checksum, "%08x", crc32(lines->text + lines->at + 9, lines->size - lines->at - 9));
  memcpy(lines->text + lines->at, checksum, 8);
  lines->text[lines->size++] = '\n';
}

/* False with errno. */
static bool append(const void *bytes, size_t size) {
  struct stat stat;
  /* noded may have lost its run directory: what is written to a file without a name nobody will read. */
  if (log_file == -1 || fstat(log_file, &stat) == -1 || stat.st_nlink == 0) {
    errno = ENOENT;
    return false;
  }
  ssize_t wrote = write(log_file, bytes, size);
  if (wrote == (ssize_t)size) return true;
  if (wrote != -1) errno = ENOSPC;
  return false;
}

static bool append_lines(const char *key, const struct lines *lines) {
  bool appended = append(lines->text, lines->size);
  if (!appended) message("%s: cannot write to the log: %s", key, strerror(errno));
  return appended;
}

static void follow_run_dir(void);

/* True if it is appended to from now on. On an error the one before goes on, and noded keeps that. */
static bool use_segment(uint32_t number, bool *follows) {
  char name[32];
  snprintf(name, sizeof name, "log/%010u.log", number);
  int fd = openat(run_dir, name, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
  *follows = fd == -1 && errno == ENOENT;
  if (*follows) {
    follow_run_dir();
    fd = openat(run_dir, name, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
  }
  if (fd == -1) {
    message("%s: %s", name, strerror(errno));
    return false;
  }
  if (log_file != -1) close(log_file);
  log_file = fd;
  return true;
}

/* Of a line: its time, by both clocks. */
#define MOMENT "\"time\":%lld.%03d,\"boot_time\":%lld.%03d"
#define MOMENT_OF(at) (long long)((at).wall / 1000), (int)((at).wall % 1000), (long long)((at).boot / 1000), (int)((at).boot % 1000)

/* Adds the `started` line of a call, if that is still to be written. */
static void add_started(struct lines *lines, struct call *call) {
  if (!call->unwritten) return;
  call->unwritten = false;
  begin_line(lines, call->key, "{\"event\":\"started\"," MOMENT ",\"pid\":%d,\"start_time\":%llu,\"boot_id\":\"%s\"}", MOMENT_OF(call->started), (int)call->pid, (unsigned long long)call->start_time, boot_id);
  end_line(lines);
}

/* Starts that are not on file yet are those of the youngest calls. In one write, before the daemon hears of them: then their IDs are given out. */
static void write_starts(void) {
  static struct lines lines;
  if (on_disk) return; /* there each is a job */
  int32_t at = last_young;
  while (at != -1 && calls[at].unwritten) {
    const char *key = calls[at].key;
    begin_lines(&lines);
    for (; at != -1 && calls[at].unwritten && lines.size + LINE_HEAD + MAX_STARTED <= sizeof lines.text; at = calls[at].previous_young) add_started(&lines, &calls[at]);
    append_lines(key, &lines);
  }
}

static const char *const stages[] = {"", "open", "spawn", "exec", "journal"};

/* ---- reports ---- */

static void put_moment(struct moment at) {
  put_u64((uint64_t)at.wall);
  put_u64((uint64_t)at.boot);
}

static void report_started(const struct call *call, char type) {
  if (!begin_frame(type, KEY + 28)) return;
  put(call->key, KEY);
  put_u32((uint32_t)call->pid);
  put_u64(call->start_time);
  put_moment(call->started);
}

/* What a function wrote. The bytes are those that stand in its `ended` line: stdout, then stderr. */
struct written { uint64_t out, err; bool noted; uint8_t bytes[MAX_NOTED]; };

static const struct written nothing;

enum { NOTED = 1, HAS_BOOT = 2 };

static void report_ended(const char *key, uint8_t kind, int32_t code, uint8_t stage, struct moment at, struct usage usage, const struct written *written) {
  size_t noted = written->noted ? (size_t)(written->out + written->err) : 0;
  if (!begin_frame('E', KEY + 1 + 4 + 1 + 8 * 7 + 1 + noted)) return;
  put(key, KEY);
  put_u8(kind);
  put_u32((uint32_t)code);
  put_u8(stage);
  put_u64((uint64_t)at.wall);
  put_u64(usage.user_us);
  put_u64(usage.system_us);
  put_u64(usage.max_rss_kib);
  put_u64(written->out);
  put_u64(written->err);
  put_u8(HAS_BOOT | (written->noted ? NOTED : 0));
  put_u64((uint64_t)at.boot);
  put(written->bytes, noted);
}

static void write_not_started(const char *key, int error, uint8_t stage, struct moment at) {
  const char *name = strerrorname_np(error);
  struct lines lines;
  begin_lines(&lines);
  begin_line(&lines, key, "{\"event\":\"ended\"," MOMENT ",\"errno\":\"%s\",\"stage\":\"%s\"}", MOMENT_OF(at), name ? name : "EUNKNOWN", stages[stage]);
  end_line(&lines);
  append_lines(key, &lines);
}

/* ---- starting ---- */

/* Written by the child in the memory that vfork lets it share, read by the parent once the child is gone. */
static volatile int child_error, child_stage;

struct streams { int in, out, err; };

static void close_streams(struct streams *streams) {
  if (streams->in != -1) close(streams->in);
  if (streams->out != -1) close(streams->out);
  if (streams->err != -1) close(streams->err);
}

/* A file in memory that holds the arguments. */
static int memory_args(const struct start *start) {
  int fd = memfd_create("args", MFD_CLOEXEC);
  if (fd == -1) return -1;
  ssize_t wrote = pwrite(fd, start->args, start->args_size, 0); /* the offset stays where the function begins to read */
  if (wrote == (ssize_t)start->args_size) return fd;
  int error = wrote == -1 ? errno : ENOSPC;
  close(fd);
  errno = error;
  return -1;
}

/* The arguments that came in parts before this start. */
static int args_in_parts(const struct start *start) {
  bool mine = memcmp(parts.key, start->key, sizeof parts.key) == 0;
  int fd = mine ? parts.fd : -1;
  if (mine) parts.fd = -1;
  if (fd != -1 && parts.error == 0 && lseek(fd, 0, SEEK_SET) == 0) return fd;
  if (fd != -1) close(fd);
  errno = mine && parts.error != 0 ? parts.error : EINVAL;
  return -1;
}

static int open_args(const struct start *start) {
  return start->flags & F_INLINE ? memory_args(start) : open_file(start->key, "args", O_RDONLY);
}

/* A file of the spool's filesystem without a name; where that has no such thing, with its name from the start. */
static int open_output(const struct start *start, const char *kind) {
  if (start->flags & F_UNSPOOLED) return memfd_create(kind, MFD_CLOEXEC);
  int fd = openat(run_dir, "calls", O_TMPFILE | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  if (fd != -1 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
  return open_file(start->key, kind, O_WRONLY | O_APPEND | O_CREAT | O_EXCL);
}

/* Those that are open already, as arguments in parts are, stay so. */
static bool open_streams(const struct start *start, struct streams *streams) {
  if (streams->in == -1) streams->in = open_args(start);
  if (streams->in == -1) return false;
  streams->out = open_output(start, "out");
  /* Only one of them is tried if the first fails: the errno is that one's. */
  if (streams->out != -1) streams->err = open_output(start, "err");
  if (streams->out != -1 && streams->err != -1) return true;
  return false;
}

/* As noded's scan of the functions directory sees it: it could have been changed by somebody else. */
static bool is_unsafe(const struct stat *stat) {
  if (stat->st_uid != 0 && stat->st_uid != getuid()) return true;
  if (stat->st_mode & S_IWOTH) return true;
  return (stat->st_mode & S_IWGRP) && stat->st_gid != 0 && stat->st_gid != getgid();
}

/* The program, opened once and checked on that descriptor. -1 with errno if it must not be run. */
static int open_program(const char *path) {
  struct stat stat;
  int fd = open(path, O_PATH | O_CLOEXEC);
  if (fd == -1) return -1;
  int error = 0;
  if (fstat(fd, &stat) == -1) error = errno;
  else if (!S_ISREG(stat.st_mode) || (stat.st_mode & 0111) == 0) error = EACCES;
  else if (is_unsafe(&stat)) error = EPERM;
  if (error == 0) return fd;
  close(fd);
  errno = error;
  return -1;
}

static bool set_limits(const struct start *start) {
  struct rlimit limit = {0, 0};
  struct rlimit size = {start->fsize, start->fsize};
  /* What a function leaves running would have the limit for life: a daemon's log, a virtual machine's disk. */
  if (!(start->flags & F_LEAVE_RUNNING) && setrlimit(RLIMIT_FSIZE, &size) == -1) return false;
  if (soft_nofile <= SOFT_NOFILE) return true;
  if (getrlimit(RLIMIT_NOFILE, &limit) == -1) return false;
  limit.rlim_cur = SOFT_NOFILE;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

static bool become_user(const struct start *start) {
  if ((start->flags & F_NICE) && setpriority(PRIO_PROCESS, 0, own_nice + start->nice) == -1) return false;
  if (!(start->flags & F_USER)) return true;
  /* Not by glibc, which would have all threads do it. */
  return syscall(SYS_setgroups, 0, NULL) == 0 && syscall(SYS_setresgid, start->gid, start->gid, start->gid) == 0 && syscall(SYS_setresuid, start->uid, start->uid, start->uid) == 0;
}

static void reset_oom_score(void) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd == -1) return;
  ssize_t wrote = write(fd, "0", 1);
  (void)wrote; /* not fatal: the function is only more likely to be spared */
  close(fd);
}

/* In the child, between vfork and exec: it shares the parent's memory, so it must not touch any but its own two words. */
__attribute__((noreturn)) static void become_function(const struct start *start, const struct streams *streams, int program) {
  struct sigaction reset = {.sa_handler = SIG_DFL};
  sigset_t none;
  char *argv[] = {start->program, NULL};
  child_stage = STAGE_SPAWN;
  if (setsid() == -1) goto failed;
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
    if (sigaction(ignored[i], &reset, NULL) == -1) goto failed;
  if (dup2(streams->in, 0) == -1 || dup2(streams->out, 1) == -1 || dup2(streams->err, 2) == -1) goto failed;
  if (reset_oom) reset_oom_score();
  if (!set_limits(start) || !become_user(start)) goto failed;
  sigemptyset(&none);
  if (sigprocmask(SIG_SETMASK, &none, NULL) == -1) goto failed;
  child_stage = STAGE_EXEC;
  syscall(SYS_execveat, program, "", argv, start->env, AT_EMPTY_PATH);
  /*
   * A script's interpreter opens the script by name, and our descriptor is closed by then: the kernel says ENOENT.
   * So between check and exec of a script somebody may replace it: but only root or noded's user, because the
   * scan saw to every directory above it.
   */
  if (errno == ENOENT) execve(start->program, argv, start->env);
failed:
  child_error = errno;
  _exit(127);
}

/* The clock of field 22 of /proc/PID/stat: ticks since boot, of which the kernel counts 100 a second for programs. */
static uint64_t ticks(struct moment at) { return (uint64_t)at.boot / 10; }

/* Before and after the last vfork. */
static struct moment before_fork, after_fork;

static uint64_t start_time_of(pid_t pid) {
  char path[32], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  if (read_small(path, text, sizeof text) <= 0) return 0;
  char *field = strrchr(text, ')');
  for (int i = 0; field != NULL && i < 20; i++) field = strchr(field + 1, ' ');
  return field == NULL ? 0 : strtoull(field + 1, NULL, 10);
}

/* Returns the pid, or -1 with the stage in child_stage. SIGCHLD is blocked always: nobody exits before being known. */
static pid_t fork_function(const struct start *start, const struct streams *streams, int program) {
  child_error = child_stage = 0;
  before_fork = moment_now();
  pid_t pid = vfork();
  if (pid == 0) become_function(start, streams, program);
  after_fork = moment_now();
  if (pid == -1) {
    child_stage = STAGE_SPAWN;
    return -1;
  }
  if (child_error == 0) return pid;
  waitpid(pid, NULL, 0);
  errno = child_error;
  return -1;
}

/* ---- young calls: their output has no names yet, and their starts are not in the log ---- */

/* False if it cannot have a name; then it stays open. */
static bool name_output(struct call *call, const char *kind, int *fd, bool says) {
  char from[32], to[FILE_NAME];
  if (*fd == -1) return true;
  snprintf(from, sizeof from, "/proc/self/fd/%d", *fd);
  bool named = linkat(AT_FDCWD, from, run_dir, file_name(to, call->key, kind), AT_SYMLINK_FOLLOW) == 0 || errno == EEXIST; /* it had one from the start */
  if (!named && says) message("%s: its std%s cannot have a name: %s", call->key, kind, strerror(errno));
  if (!named) return false;
  close(*fd);
  *fd = -1;
  return true;
}

static void leave_young(struct call *call) {
  int32_t next = call->next_young, previous = call->previous_young;
  *(previous == -1 ? &first_young : &calls[previous].next_young) = next;
  *(next == -1 ? &last_young : &calls[next].previous_young) = previous;
  call->began = -1;
  young_count -= 1;
}

static bool name_outputs(struct call *call, bool says) {
  bool out = name_output(call, "out", &call->out, says), err = name_output(call, "err", &call->err, says);
  return out && err;
}

static void settle(struct call *call) {
  write_starts();
  leave_young(call);
  give_call(call, JOB_NAME);
}

/* A disk that was full may have room again: what runs for long shall have its names. */
static void name_again(void) {
  rename_at = -1;
  for (int i = 0; i < MAX_CALLS && live_count > 0; i++)
    if (calls[i].state == RUNNING && calls[i].began == -1 && !(calls[i].flags & F_UNSPOOLED) && (calls[i].out != -1 || calls[i].err != -1)) give_call(&calls[i], JOB_NAME_AGAIN);
}

static void settle_due(void) {
  int64_t now = monotonic_ms();
  while (first_young != -1 && calls[first_young].began + SETTLE_MS <= now) settle(&calls[first_young]);
}

static void become_young(struct call *call) {
  int32_t at = (int32_t)(call - calls);
  call->began = monotonic_ms();
  call->previous_young = last_young;
  call->next_young = -1;
  *(last_young == -1 ? &first_young : &calls[last_young].next_young) = at;
  last_young = at;
  young_count += 1;
  if (young_count > max_young) settle(&calls[first_young]);
}

static void send_signal(const struct call *call, uint8_t what) {
  if (what == 2) {
    kill(-call->pid, SIGKILL);
    return;
  }
  kill(-call->pid, SIGTERM);
  kill(-call->pid, SIGCONT);
}

static void begin_call(struct call *call, const struct start *start, pid_t pid, const struct streams *streams) {
  call->state = RUNNING;
  call->unwritten = !(start->flags & F_UNSPOOLED);
  call->pid = pid;
  /* The kernel took its time between the two: if they are the same it is that, and /proc need not be asked. */
  call->start_time = ticks(before_fork) == ticks(after_fork) ? ticks(before_fork) : start_time_of(pid);
  call->started = before_fork; /* whatever the function does is later */
  call->out = streams->out;
  call->err = streams->err;
  if (start->flags & F_LEAVE_RUNNING) ever_left_running = true;
  live_count += 1;
  index_pid(call);
  if (call->wanted != 0) send_signal(call, call->wanted);
  if (call->flags & F_UNSPOOLED) {
    report_started(call, 'A');
    return;
  }
  /* In memory a start is written when it is reported, most often with its end. */
  if (on_disk) {
    give_call(call, JOB_STARTED);
  } else {
    report_started(call, 'A');
    if (!(call->flags & F_INLINE)) unlink_file(call->key, "args");
  }
  become_young(call);
}

/* ---- ending ---- */

static void send_output(struct call *call, uint8_t stream, int fd) {
  static uint8_t bytes[MAX_UNSPOOLED];
  ssize_t size = pread(fd, bytes, sizeof bytes, 0);
  if (size <= 0 || !begin_frame('O', KEY + 1 + (size_t)size)) return;
  put(call->key, KEY);
  put_u8(stream);
  put(bytes, (size_t)size);
}

/* Appends a member with text that needs no more than a backslash; false if it does, or does not fit. */
static bool note(struct lines *line, const char *name, const uint8_t *bytes, size_t size, bool always) {
  static const char room_for_the_end[] = "\"}\n";
  size_t at = line->size, limit = line->at + LINE_HEAD + MAX_LINE - sizeof room_for_the_end;
  if (size == 0 && !always) return true;
  if (at + 32 > limit) return false;
  at += (size_t)snprintf(line->text + at, 32, ",\"%s\":\"", name);
  for (size_t i = 0; i < size; i++) {
    if (at + 2 > limit) return false;
    uint8_t byte = bytes[i];
    if (byte == '\n' || byte == '\t' || byte == '"' || byte == '\\') {
      line->text[at++] = '\\';
      byte = byte == '\n' ? 'n' : byte == '\t' ? 't' : byte;
    } else if (byte < 0x20 || byte > 0x7e) {
      return false;
    }
    line->text[at++] = (char)byte;
  }
  line->text[at++] = '"';
  line->size = at;
  return true;
}

/* Opened anew: a function process cannot read what it wrote, and has the same open file. */
static bool read_output(int fd, uint8_t *bytes, size_t size) {
  char path[32];
  if (size == 0) return true;
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int reader = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = reader == -1 ? -1 : read(reader, bytes, size);
  if (reader != -1) close(reader);
  return got == (ssize_t)size;
}

static bool fits_line(int fd, uint64_t *size, bool *has_name) {
  struct stat stat;
  if (fd == -1 || fstat(fd, &stat) == -1 || stat.st_size > MAX_NOTED) return false;
  *size = (uint64_t)stat.st_size;
  *has_name |= stat.st_nlink > 0;
  return true;
}

/* Adds what a young call wrote to its `ended` line, if it is little and plain. */
static bool note_output(struct call *call, struct lines *line, struct written *written, bool *has_name) {
  if (!fits_line(call->out, &written->out, has_name) || !fits_line(call->err, &written->err, has_name) || written->out + written->err > MAX_NOTED) return false;
  size_t out_bytes = (size_t)written->out, err_bytes = (size_t)written->err;
  if (!read_output(call->out, written->bytes, out_bytes) || !read_output(call->err, written->bytes + out_bytes, err_bytes)) return false;
  /* One of them is there always: so it shows that there are no files. */
  return note(line, "stdout", written->bytes, out_bytes, err_bytes == 0) && note(line, "stderr", written->bytes + out_bytes, err_bytes, false);
}

/* Writes the `ended` line, and sees to it that the output is where it says. */
static void write_ended(struct call *call, struct lines *lines, struct written *written) {
  const size_t facts = lines->size;
  bool has_name = false;
  if (note_output(call, lines, written, &has_name)) {
    lines->text[lines->size++] = '}';
    end_line(lines);
    written->noted = append_lines(call->key, lines);
  }
  if (written->noted && has_name) unlink_output(call->key);
  if (written->noted) return;
  bool kept = name_output(call, "out", &call->out, true);
  name_output(call, "err", &call->err, true);
  written->out = file_size(call->key, "out");
  written->err = file_size(call->key, "err");
  char what[80] = "";
  if (!kept) strcpy(what, ",\"stdout_lost\":true");
  else if (written->out != SIZE_UNKNOWN && written->err != SIZE_UNKNOWN) snprintf(what, sizeof what, ",\"stdout_bytes\":%llu,\"stderr_bytes\":%llu", (unsigned long long)written->out, (unsigned long long)written->err);
  lines->size = facts + (size_t)snprintf(lines->text + facts, sizeof what + 1, "%s}", what);
  end_line(lines);
  append_lines(call->key, lines);
  /* An empty file says no more than none. */
  if (written->out == 0) unlink_file(call->key, "out");
  if (written->err == 0) unlink_file(call->key, "err");
}

static void write_end(struct call *call, struct written *written) {
  const struct finish *end = &call->finish;
  char exit_code[16] = "null", signal[32] = "null";
  struct lines lines;
  begin_lines(&lines);
  add_started(&lines, call);
  if (end->signaled) snprintf(signal, sizeof signal, "\"%s\"", signal_name(end->code));
  else snprintf(exit_code, sizeof exit_code, "%d", end->code);
  begin_line(&lines, call->key, "{\"event\":\"ended\"," MOMENT ",\"exit_code\":%s,\"signal\":%s,\"user_seconds\":%.6f,\"system_seconds\":%.6f,\"max_rss_bytes\":%llu", MOMENT_OF(end->at), exit_code, signal, (double)end->usage.user_us / 1e6, (double)end->usage.system_us / 1e6, (unsigned long long)end->usage.max_rss_kib * 1024);
  write_ended(call, &lines, written);
}

/* ---- frames in ---- */

struct reader { const uint8_t *at, *end; bool bad; };

static const uint8_t *take(struct reader *reader, size_t size) {
  if ((size_t)(reader->end - reader->at) < size) {
    reader->bad = true;
    return NULL;
  }
  reader->at += size;
  return reader->at - size;
}
static uint8_t take_u8(struct reader *reader) {
  const uint8_t *b = take(reader, 1);
  return b ? *b : 0;
}
static uint32_t take_u32(struct reader *reader) {
  const uint8_t *b = take(reader, 4);
  return b ? (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24 : 0;
}
static uint16_t take_u16(struct reader *reader) {
  const uint8_t *b = take(reader, 2);
  return b ? (uint16_t)(b[0] | b[1] << 8) : 0;
}
static uint64_t take_u64(struct reader *reader) {
  uint64_t low = take_u32(reader);
  return low | (uint64_t)take_u32(reader) << 32;
}
static char *take_string(struct reader *reader) {
  const uint8_t *end = memchr(reader->at, '\0', (size_t)(reader->end - reader->at));
  if (end == NULL) {
    reader->bad = true;
    return NULL;
  }
  return (char *)take(reader, (size_t)(end - reader->at) + 1);
}
static void take_key(struct reader *reader, char *key) {
  const uint8_t *bytes = take(reader, KEY);
  key[0] = '\0';
  if (bytes == NULL) return;
  for (int i = 0; i < KEY; i++)
    if (!((bytes[i] >= '0' && bytes[i] <= '9') || (bytes[i] >= 'a' && bytes[i] <= 'f'))) reader->bad = true; /* it becomes a file's name */
  memcpy(key, bytes, KEY);
  key[KEY] = '\0';
}

static bool read_start(struct reader *reader, struct start *start) {
  memset(start, 0, sizeof *start);
  take_key(reader, start->key);
  start->flags = take_u8(reader);
  start->uid = take_u32(reader);
  start->gid = take_u32(reader);
  start->nice = (int32_t)take_u32(reader);
  start->fsize = take_u64(reader);
  start->program = take_string(reader);
  unsigned count = take_u8(reader);
  if (count > MAX_ENV) reader->bad = true;
  for (unsigned i = 0; i < count && !reader->bad; i++) start->env[i] = take_string(reader);
  start->args_size = take_u32(reader);
  start->args = take(reader, start->args_size);
  start->accepted_size = take_u16(reader);
  start->accepted = take(reader, start->accepted_size);
  bool absolute = start->program != NULL && start->program[0] == '/';
  return !reader->bad && absolute && start->accepted_size <= LINE_HEAD + MAX_LINE + 1 && reader->at == reader->end;
}

/* ---- jobs: what may have to wait for the disk of the run directory ---- */

/*
 * A call has one at a time, and what it needs next waits until that is done. It works on a copy: the table is not its
 * thread's.
 */
struct job {
  enum job_kind kind;
  int32_t slot;
  struct job *next;
  struct call call;
  const struct start *start; /* JOB_OPEN */
  struct streams streams;
  struct written written;
  int error;
  uint8_t stage;
  bool again;   /* JOB_NOT_STARTED: it will be tried again */
  bool done;    /* it came to what it should */
  uint32_t segment;
  bool follows; /* JOB_SEGMENT: it was not in the run directory that we had */
  char said[MAX_MESSAGE];
};

static void add_job(struct job **first, struct job **last, struct job *job) {
  job->next = NULL;
  *(*first == NULL ? first : &(*last)->next) = job;
  *last = job;
}

/* Of the calls by their slots: touched when used, and in memory not at all. */
static struct job jobs[MAX_CALLS], segment_job;
static bool segment_busy;
static uint32_t next_segment;
static pthread_mutex_t jobs_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t job_came = PTHREAD_COND_INITIALIZER;
static struct job *first_job, *last_job, *first_done, *last_done;
static int jobs_done = -1;

static bool append_accepted(const struct start *start) {
  char text[1 + LINE_HEAD + MAX_LINE + 1];
  text[0] = '\n';
  memcpy(text + 1, start->accepted, start->accepted_size);
  return append(text, 1 + (size_t)start->accepted_size);
}

static void open_files(struct job *job) {
  const struct start *start = job->start;
  int parts_error = job->error;
  job->stage = STAGE_JOURNAL;
  job->done = start->accepted_size == 0 || append_accepted(start);
  if (job->done) {
    job->stage = STAGE_OPEN;
    errno = parts_error;
    job->done = parts_error == 0 && open_streams(start, &job->streams);
  }
  job->error = job->done ? 0 : errno;
}

static void put_started(struct call *call) {
  struct lines lines;
  begin_lines(&lines);
  add_started(&lines, call);
  append_lines(call->key, &lines);
  if (!(call->flags & F_INLINE)) unlink_file(call->key, "args");
}

static void put_not_started(const struct job *job) {
  const struct call *call = &job->call;
  if (call->flags & F_UNSPOOLED) return;
  /* Of a start that could not be put on file nobody knows any more: the daemon refuses it. */
  if (!job->again && job->stage != STAGE_JOURNAL) write_not_started(call->key, job->error, job->stage, call->finish.at);
  if (!job->again) unlink_file(call->key, "args");
  unlink_output(call->key);
}

static void do_job(struct job *job) {
  switch (job->kind) {
    case JOB_OPEN: open_files(job); break;
    case JOB_STARTED: put_started(&job->call); break;
    case JOB_NAME: job->done = name_outputs(&job->call, true); break;
    case JOB_NAME_AGAIN: job->done = name_outputs(&job->call, false); break;
    case JOB_END: write_end(&job->call, &job->written); break;
    case JOB_NOT_STARTED: put_not_started(job); break;
    case JOB_SEGMENT: job->done = use_segment(job->segment, &job->follows); break;
  }
}

/* What is done with files in memory, and without files, is done at once. */
static bool has_to_wait(uint8_t flags) { return on_disk && !(flags & F_UNSPOOLED); }

/* `here` is where it is if it is done at once. */
static struct job *new_job(const struct call *call, enum job_kind kind, struct job *here) {
  struct job *job = has_to_wait(call->flags) ? &jobs[call - calls] : here;
  job->kind = kind;
  job->slot = (int32_t)(call - calls);
  job->call = *call;
  job->streams = (struct streams){-1, -1, -1};
  job->written.out = job->written.err = 0;
  job->written.noted = job->again = job->done = false;
  job->error = 0;
  job->said[0] = '\0';
  return job;
}

static void finish_job(struct job *job);

static void give_job(struct job *job, bool waits) {
  if (!waits) {
    do_job(job);
    finish_job(job);
    return;
  }
  if (job->slot != -1) calls[job->slot].busy = true;
  jobs_open += 1;
  pthread_mutex_lock(&jobs_lock);
  add_job(&first_job, &last_job, job);
  pthread_cond_signal(&job_came);
  pthread_mutex_unlock(&jobs_lock);
}

static void give_call(struct call *call, enum job_kind kind) {
  if (call->busy) {
    call->after |= (uint8_t)(1 << kind);
    return;
  }
  struct job here;
  give_job(new_job(call, kind, &here), has_to_wait(call->flags));
}

/* Its number is told once it is appended to. */
static void give_segment(uint32_t number) {
  if (segment_busy) {
    next_segment = number;
    return;
  }
  segment_busy = true;
  segment_job.kind = JOB_SEGMENT;
  segment_job.slot = -1;
  segment_job.segment = number;
  segment_job.said[0] = '\0';
  give_job(&segment_job, on_disk);
}

static void fail_start(struct call *call, int error, uint8_t stage) {
  /* Then noded makes the directories again, and the next start shall find them. */
  if (error == ENOENT && stage == STAGE_JOURNAL && names_at == -1) names_at = monotonic_ms() + RETRY_MS;
  call->finish.at = moment_now();
  struct job here, *job = new_job(call, JOB_NOT_STARTED, &here);
  job->error = error;
  job->stage = stage;
  /* A package upgrade is writing the program: rare and short. The daemon asks again, and nobody here waits. Parts are used up. */
  job->again = error == ETXTBSY && !(call->flags & (F_LAST_TRY | F_PARTS)) && daemon_fd != -1;
  give_job(job, has_to_wait(call->flags));
}

/* The program is looked at last: what is checked shall be what runs. */
static bool run_start(struct call *call, const struct start *start, const struct streams *streams, int *error, uint8_t *stage) {
  int program = open_program(start->program);
  if (program == -1) {
    *error = errno;
    *stage = STAGE_EXEC;
    return false;
  }
  pid_t pid = fork_function(start, streams, program);
  *error = errno;
  *stage = (uint8_t)child_stage;
  close(program);
  if (pid == -1) return false;
  close(streams->in);
  begin_call(call, start, pid, streams);
  return true;
}

/* The job's place may be taken by the call's next one. */
static void finish_open(struct call *call, const struct job *job) {
  const struct start *start = job->start;
  struct streams streams = job->streams;
  int error = job->error;
  uint8_t stage = job->stage;
  bool is_open = job->done, waited = has_to_wait(call->flags);
  if (is_open && quitting) {
    is_open = false;
    error = EAGAIN;
    stage = STAGE_SPAWN;
  }
  if (!is_open || !run_start(call, start, &streams, &error, &stage)) {
    close_streams(&streams);
    fail_start(call, error, stage);
  }
  if (waited) free((void *)start);
}

static void finish_not_started(struct call *call, const struct job *job) {
  if (!job->again) {
    report_ended(call->key, KIND_NOT_STARTED, job->error, job->stage, call->finish.at, (struct usage){0}, &nothing);
  } else if (begin_frame('B', KEY)) {
    put(call->key, KEY);
  } else { /* nobody is there to ask again */
    fail_start(call, job->error, job->stage);
    return;
  }
  drop_call(call);
}

static void finish_end(struct call *call, const struct written *written) {
  const struct finish *end = &call->finish;
  if (call->out != -1) close(call->out);
  if (call->err != -1) close(call->err);
  call->out = call->err = -1;
  report_ended(call->key, end->signaled ? KIND_SIGNALED : KIND_EXITED, end->code, STAGE_NONE, end->at, end->usage, written);
}

static void finish_segment(const struct job *job) {
  uint32_t next = next_segment;
  segment_busy = false;
  next_segment = 0;
  /* Whoever looks for us there must find our names. */
  if (job->done && job->follows) names_at = monotonic_ms();
  if (job->done && begin_frame('G', 4)) put_u32(job->segment);
  if (next != 0) give_segment(next);
}

static void finish_job(struct job *job) {
  struct call *call = &calls[job->slot == -1 ? 0 : job->slot];
  if (job->said[0] != '\0') message("%s", job->said);
  if (job->kind == JOB_SEGMENT) {
    finish_segment(job);
    return;
  }
  call->busy = false;
  if (job->kind == JOB_OPEN) {
    finish_open(call, job);
    return;
  }
  if (job->kind == JOB_NOT_STARTED) {
    finish_not_started(call, job);
    return;
  }
  uint8_t after = call->after;
  call->after = 0;
  call->out = job->call.out;
  call->err = job->call.err;
  call->unwritten = job->call.unwritten;
  if (job->kind == JOB_STARTED) report_started(call, 'A');
  else if (job->kind == JOB_END) finish_end(call, &job->written);
  else if (!job->done) rename_at = monotonic_ms() + RENAME_MS;
  /* What is to be done at an end includes the rest. */
  for (int kind = JOB_END; kind >= JOB_NAME && after != 0; kind--)
    if (after & 1 << kind) {
      give_call(call, (enum job_kind)kind);
      return;
    }
}

/* As far as there is room to tell of it. */
static void take_done(void) {
  uint64_t count;
  if (read(jobs_done, &count, sizeof count) == -1) return;
  for (;;) {
    if (!out_room()) {
      count = 1;
      if (write(jobs_done, &count, sizeof count) == -1) _exit(70);
      return;
    }
    pthread_mutex_lock(&jobs_lock);
    struct job *job = first_done;
    if (job != NULL) first_done = job->next;
    pthread_mutex_unlock(&jobs_lock);
    if (job == NULL) return;
    jobs_open -= 1;
    finish_job(job);
  }
}

__attribute__((noreturn)) static void *do_jobs(void *unused) {
  const uint64_t one = 1;
  (void)unused;
  for (;;) {
    pthread_mutex_lock(&jobs_lock);
    while (first_job == NULL) pthread_cond_wait(&job_came, &jobs_lock);
    struct job *job = first_job;
    first_job = job->next;
    pthread_mutex_unlock(&jobs_lock);
    said_by_job = job->said;
    do_job(job);
    pthread_mutex_lock(&jobs_lock);
    add_job(&first_done, &last_done, job);
    pthread_mutex_unlock(&jobs_lock);
    if (write(jobs_done, &one, sizeof one) == -1 && errno != EAGAIN) _exit(70);
  }
}

/* False with errno. */
static bool start_thread(void) {
  struct statfs stat;
  pthread_t thread;
  if (fstatfs(run_dir, &stat) == -1) return false;
  on_disk = (uint32_t)stat.f_type != TMPFS && (uint32_t)stat.f_type != RAMFS;
  if (!on_disk) return true;
  jobs_done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (jobs_done == -1) return false;
  errno = pthread_create(&thread, NULL, do_jobs, NULL);
  return errno == 0;
}

#ifndef NODED_FORKER_FUZZ /* the fuzzer reads frames and starts nothing */
/* Takes a place in the table, until its process runs or it has failed. */
static struct call *begin_start(const struct start *start) {
  struct call *call = quitting ? NULL : new_call();
  if (call == NULL) return NULL;
  memcpy(call->key, start->key, sizeof call->key);
  call->flags = start->flags;
  call->state = OPENING;
  call->quiet = call->after = call->wanted = 0;
  call->unwritten = call->busy = false;
  call->pid = 0;
  call->out = call->err = -1;
  call->began = -1;
  index_key(call);
  return call;
}

/* There is no place for it. What it has on a disk stays until it is forgotten: nothing here could wait for that. */
static void refuse_start(const struct start *start) {
  struct moment now = moment_now();
  bool on_file = start->accepted_size == 0 && !(start->flags & F_UNSPOOLED);
  if (on_file && !on_disk) {
    write_not_started(start->key, EAGAIN, STAGE_SPAWN, now);
    unlink_file(start->key, "args");
  }
  drop_parts();
  report_ended(start->key, KIND_NOT_STARTED, EAGAIN, start->accepted_size > 0 ? STAGE_JOURNAL : STAGE_SPAWN, now, (struct usage){0}, &nothing);
}

/* A start and the frame that its strings point into. */
struct kept_start { struct start start; uint8_t frame[]; };

static const struct start *keep_start(const uint8_t *frame, size_t size) {
  struct kept_start *kept = malloc(sizeof *kept + size);
  if (kept == NULL) return NULL;
  memcpy(kept->frame, frame, size);
  struct reader reader = {kept->frame + 1, kept->frame + size, false};
  read_start(&reader, &kept->start);
  return &kept->start;
}

static void start_call(const struct start *start, const uint8_t *frame, size_t size) {
  struct call *call = begin_start(start);
  if (call == NULL) {
    refuse_start(start);
    return;
  }
  struct job here, *job = new_job(call, JOB_OPEN, &here);
  if (start->flags & F_PARTS) {
    job->streams.in = args_in_parts(start);
    if (job->streams.in == -1) job->error = errno;
  }
  job->start = has_to_wait(call->flags) ? keep_start(frame, size) : start;
  if (job->start != NULL) {
    give_job(job, has_to_wait(call->flags));
    return;
  }
  close_streams(&job->streams);
  fail_start(call, ENOMEM, STAGE_SPAWN);
}

/* False for more than a daemon may send. */
static bool add_part(const char *key, const uint8_t *bytes, size_t size) {
  if (memcmp(parts.key, key, sizeof parts.key) != 0) {
    drop_parts();
    memcpy(parts.key, key, sizeof parts.key);
    parts.size = 0;
    parts.fd = memfd_create("args", MFD_CLOEXEC);
    parts.error = parts.fd == -1 ? errno : 0;
  }
  parts.size += size;
  if (parts.error == 0 && !write_all(parts.fd, bytes, size)) parts.error = errno;
  return parts.size <= MAX_PARTS;
}
#endif

static uint64_t microseconds(struct timeval time) { return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_usec; }

static void end_call(struct call *call, int status, const struct rusage *rusage) {
  bool signaled = WIFSIGNALED(status);
  call->finish = (struct finish){signaled ? WTERMSIG(status) : WEXITSTATUS(status), signaled, moment_now(), {microseconds(rusage->ru_utime), microseconds(rusage->ru_stime), (uint64_t)rusage->ru_maxrss}};
  if (call->began != -1) leave_young(call);
  call->state = ENDED;
  call->quiet = 0;
  live_count -= 1;
  call->next_ended = ended_calls;
  ended_calls = (int32_t)(call - calls);
  if (!(call->flags & F_UNSPOOLED)) {
    give_call(call, JOB_END);
    return;
  }
  send_output(call, 1, call->out);
  send_output(call, 2, call->err);
  finish_end(call, &nothing);
}

static void sweep_soon(void) {
  if (sweep_at == -1) sweep_at = monotonic_ms() + sweep_pause;
}

/* SIGCHLDs coalesce: reap until there is nothing left. */
static void reap(void) {
  reap_at = -1;
  for (;;) {
    reap_again = !out_room();
    if (reap_again) return;
    siginfo_t info = {.si_pid = 0};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == -1) {
      if (errno != ECHILD) reap_at = monotonic_ms() + RETRY_MS;
      return;
    }
    if (info.si_pid == 0) return;
    struct call *call = call_of_pid(info.si_pid);
    bool leader = call != NULL && call->state == RUNNING;
    /* The leader is not reaped yet, so its number cannot be another's. */
    if (leader && !(call->flags & F_LEAVE_RUNNING)) kill(-info.si_pid, SIGKILL);
    int status;
    struct rusage usage;
    if (wait4(info.si_pid, &status, 0, &usage) != info.si_pid) {
      reap_at = monotonic_ms() + RETRY_MS;
      return;
    }
    if (leader) end_call(call, status, &usage);
    sweep_soon();
  }
}

/* ---- what ended calls left behind: orphans come to this process, because it is their subreaper ---- */

struct process { pid_t pid, group, session; uint64_t start_time; char state; };

static bool look_failed; /* something could not be read that may be there */

/* As read_small(), for a file of a process: one that cannot be read for want of descriptors or memory is not gone. */
static ssize_t read_of(pid_t pid, const char *name, char *text, size_t size) {
  char path[32];
  snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
  ssize_t got = read_small(path, text, size);
  if (got == -1 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) look_failed = true;
  return got;
}

static bool read_process(pid_t pid, struct process *process) {
  char text[1024];
  int parent;
  if (read_of(pid, "stat", text, sizeof text) <= 0) return false;
  char *field = strrchr(text, ')'); /* the name before it may hold anything */
  if (field == NULL || sscanf(field + 1, " %c %d %d %d", &process->state, &parent, &process->group, &process->session) != 4) return false;
  if (parent != getpid()) return false;
  for (int i = 0; field != NULL && i < 20; i++) field = strchr(field + 1, ' ');
  process->pid = pid;
  process->start_time = field == NULL ? 0 : strtoull(field + 1, NULL, 10);
  return process->state != 'Z';
}

/* The call whose key a process carries in its environment. */
static struct call *call_in_environment(pid_t pid, bool *has_key) {
  static char text[16 * 1024];
  static const char name[] = "NODED_CALL_KEY=";
  ssize_t size = read_of(pid, "environ", text, sizeof text);
  *has_key = false;
  /* In the middle of an exec, or of its end, a process has neither of the two: nothing is known of it yet. */
  if (size == 0 && read_of(pid, "cmdline", text, sizeof text) == 0) look_failed = true;
  for (ssize_t at = 0; at < size; at += (ssize_t)strlen(text + at) + 1) {
    if (strncmp(text + at, name, sizeof name - 1) != 0 || strlen(text + at) != sizeof name - 1 + KEY) continue;
    *has_key = true;
    return call_of_key(text + at + sizeof name - 1);
  }
  return NULL;
}

static bool is_spared(const struct process *process) {
  for (int i = 0; i < spared_count; i++)
    if (spared[i].pid == process->pid && spared[i].start_time == process->start_time) return true;
  return false;
}

static void spare(const struct process *process) {
  if (spared_count == MAX_SPARED) spared_count = 0; /* forgetting only means looking again */
  spared[spared_count].pid = process->pid;
  spared[spared_count++].start_time = process->start_time;
}

/* An orphan that hid its origin belongs to some call that began before it. Once all of those have ended it may go,
 * unless one of them could have been allowed to leave it. */
static bool has_no_owner_left(const struct process *process) {
  if (ever_left_running) return false;
  for (int i = 0; i < MAX_CALLS && live_count > 0; i++)
    if (calls[i].state == RUNNING && calls[i].start_time <= process->start_time) return false;
  return true;
}

/* Whether an orphan is to be killed; `owner` is the ended call that it belongs to, if that is known. */
static bool must_die(const struct process *process, struct call **owner) {
  bool has_key;
  if (is_spared(process)) return false;
  *owner = call_of_pid(process->session);
  if (*owner == NULL) *owner = call_of_pid(process->group);
  if (*owner == NULL) *owner = call_in_environment(process->pid, &has_key);
  else has_key = true;
  if (*owner != NULL && (*owner)->state == RUNNING) return false;
  if (*owner != NULL && !((*owner)->flags & F_LEAVE_RUNNING)) return true;
  /* With the key of a call that is forgotten here it was hidden behind another process when that was looked at. */
  if (*owner == NULL && has_key && !ever_left_running) return true;
  if (*owner == NULL && !has_key && has_no_owner_left(process)) return true;
  if (*owner != NULL || has_key) spare(process);
  return false;
}

static bool look_at_child(pid_t pid) {
  struct process process;
  struct call *owner = call_of_pid(pid);
  if (owner != NULL && owner->state == RUNNING) return false;
  if (!read_process(pid, &process) || !must_die(&process, &owner)) return false;
  /* It is an unreaped child of ours: the number cannot be another's. */
  kill(pid, SIGKILL);
  if (owner != NULL) owner->quiet = 0;
  return true;
}

/* Says once that something is so, to whoever listens then; again only after it was not. */
struct said { bool is_so; int64_t again_at; };
static void say_once(struct said *said, bool is_so, const char *what, int error) {
  bool is_due = is_so && !said->is_so && daemon_fd != -1 && monotonic_ms() >= said->again_at;
  if (is_due) {
    message("%s: %s", what, strerror(error));
    said->again_at = monotonic_ms() + SAY_AGAIN_MS;
  }
  said->is_so = is_so && (said->is_so || is_due);
}

/* Every process of the machine, of which look_at_child() takes those whose parent we are. */
static bool look_through_proc(bool *killed) {
  static struct said said;
  DIR *proc = opendir("/proc");
  say_once(&said, proc == NULL, "cannot look for what functions left behind, and tries again: /proc", errno);
  if (proc == NULL) return false;
  struct dirent *entry;
  while (errno = 0, (entry = readdir(proc)) != NULL) {
    pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
    if (pid > 0) *killed |= look_at_child(pid);
  }
  bool whole = errno == 0;
  closedir(proc);
  return whole;
}

static bool look_at_list(int fd, bool *killed) {
  static char text[64 * 1024];
  size_t kept = 0;
  ssize_t got;
  while ((got = read(fd, text + kept, sizeof text - 1 - kept)) > 0) {
    text[kept + (size_t)got] = '\0';
    char *at = text, *end;
    for (pid_t pid; (pid = (pid_t)strtol(at, &end, 10)) > 0 && *end == ' '; at = end) *killed |= look_at_child(pid);
    kept = strlen(at);
    memmove(text, at, kept);
  }
  return got == 0;
}

/*
 * Looks at every child once; false if it could not. What is killed orphans its own children to us: the next look
 * finds those. A kernel without CONFIG_PROC_CHILDREN, or a /proc that hides it, has no list of them.
 */
static bool look_at_children(bool *killed) {
  static struct said said;
  char path[64];
  *killed = look_failed = false;
  snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  say_once(&said, fd == -1, "has no list of its children, and looks through all of /proc", errno);
  bool looked = fd == -1 ? look_through_proc(killed) : look_at_list(fd, killed);
  if (fd != -1) close(fd);
  return looked && !look_failed;
}

/* An ended call is forgotten once two looks in a row found nothing of it: a list of children that is read while it changes may miss one. */
static void sweep(void) {
  int64_t begin = monotonic_ms();
  bool killed, looked = look_at_children(&killed);
  for (int32_t *link = &ended_calls; looked && *link != -1;) {
    struct call *call = &calls[*link];
    if (++call->quiet < 2 || call->busy) {
      link = &call->next_ended;
    } else {
      *link = call->next_ended;
      drop_call(call);
    }
  }
  int64_t took = monotonic_ms() - begin;
  blind_sweeps = looked ? 0 : blind_sweeps + 1;
  killing_sweeps = killed ? killing_sweeps + 1 : 0;
  if (killing_sweeps == STUBBORN_SWEEPS) message("what functions left behind does not die of SIGKILL, or comes again as fast");
  sweep_pause = killing_sweeps < STUBBORN_SWEEPS && blind_sweeps == 0 ? SWEEP_MS : STUBBORN_SWEEP_MS;
  if (blind_sweeps > BLIND_SWEEPS) sweep_pause = BLIND_SWEEP_MS;
  if (took * 9 > sweep_pause) sweep_pause = took * 9; /* at most a tenth of a core */
  sweep_at = killed || !looked || ended_calls != -1 ? monotonic_ms() + sweep_pause : -1;
}

/* ---- what the daemon asks for ---- */

static void signal_call(const char *key, uint8_t what) {
  struct call *call = call_of_key(key);
  if (call == NULL || call->state == ENDED) return; /* its end is on the way to the daemon */
  if (call->state == RUNNING) send_signal(call, what);
  else if (call->wanted < what) call->wanted = what;
}

static void quit(void) {
  quitting = true;
  for (int i = 0; i < MAX_CALLS && live_count > 0; i++)
    if (calls[i].state == RUNNING) kill(-calls[i].pid, SIGKILL);
  sweep_soon();
}

/* False closes the connection. */
static bool handle_frame(const uint8_t *bytes, size_t size) {
  struct reader reader = {bytes, bytes + size, false};
  struct start start;
  char key[KEY + 1];
  uint8_t what;
  switch (take_u8(&reader)) {
    case 'S':
      /* A key that is in use would mean another call's files. */
      if (!read_start(&reader, &start) || call_of_key(start.key) != NULL) return false;
      start_call(&start, bytes, size);
      return true;
    case 'P':
      take_key(&reader, key);
      return !reader.bad && add_part(key, reader.at, (size_t)(reader.end - reader.at));
    case 'K':
      take_key(&reader, key);
      what = take_u8(&reader);
      if (reader.bad || reader.at != reader.end || (what != 1 && what != 2)) return false;
      signal_call(key, what);
      return true;
    case 'G': {
      uint32_t number = take_u32(&reader);
      if (reader.bad || reader.at != reader.end) return false;
      give_segment(number);
      return true;
    }
    case 'Q':
      if (reader.at != reader.end) return false;
      quit();
      return true;
    default:
      return false;
  }
}

static bool has_whole_frame(void) {
  struct reader reader = {in, in + in_size, false};
  return in_size >= 4 && in_size - 4 >= take_u32(&reader);
}

/* Handles whole frames in the buffer, as long as there is room for what they lead to. False: a malformed one. */
static bool handle_input(void) {
  size_t at = 0;
  bool good = true;
  for (int frames = 0; good && frames < FRAMES_A_TURN && in_size - at >= 4 && out_room(); frames++) {
    struct reader reader = {in + at, in + in_size, false};
    uint32_t size = take_u32(&reader);
    if (size == 0 || size > MAX_FRAME) good = false;
    else if (in_size - at - 4 < size) break;
    else {
      good = handle_frame(in + at + 4, size);
      at += 4 + size;
    }
  }
  memmove(in, in + at, in_size - at);
  in_size -= at;
  return good;
}

static void refuse_daemon(const char *why) {
  message("%s", why);
  flush_out();
  drop_daemon();
}

/* The connection is at its end: what the daemon had sent is still carried out, and its answers go to the log only. */
static void bury_daemon(void) {
  close(daemon_fd);
  daemon_fd = -1;
  out_size = 0;
  while (has_whole_frame() && handle_input()) {}
  drop_daemon();
}

static void read_daemon(void) {
  if (in_size == IN_SIZE || !out_room()) return;
  ssize_t got = recv(daemon_fd, in + in_size, IN_SIZE - in_size, MSG_DONTWAIT);
  if (got == -1 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOMEM)) return;
  if (got <= 0) {
    bury_daemon();
    return;
  }
  in_size += (size_t)got;
  if (!handle_input()) refuse_daemon("malformed frame");
}

/* ---- the daemon: one at a time ---- */

static void welcome(void) {
  for (int i = 0; i < MAX_CALLS; i++) {
    if (calls[i].state != RUNNING) continue;
    report_started(&calls[i], 'L');
    if (out_room()) continue;
    struct pollfd writable = {daemon_fd, POLLOUT, 0};
    poll(&writable, 1, 1000);
    flush_out();
    if (!out_room()) { /* it does not read: it is no daemon */
      drop_daemon();
      return;
    }
  }
  if (!begin_frame('W', 8)) return;
  put_u32(VERSION);
  put_u32((uint32_t)getpid());
}

static void accept_daemon(void) {
  struct ucred peer;
  socklen_t size = sizeof peer;
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd == -1) {
    /* EMFILE, ENOMEM: it must pass, and whoever connects stays in the queue. */
    if (errno != EAGAIN) nanosleep(&(struct timespec){0, RETRY_MS * 1000000L}, NULL);
    return;
  }
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == -1 || (peer.uid != 0 && peer.uid != getuid())) {
    close(fd);
    return;
  }
  daemon_fd = fd;
  names_at = -1;
  welcome();
}

/* ---- our names in the run directory: the socket, and the lock for whoever looks for us ---- */

static bool is_there(const char *name, const struct stat *made) {
  struct stat now;
  return fstatat(run_dir, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_dev == made->st_dev && now.st_ino == made->st_ino;
}

/*
 * By its whole path: cleaners (tmpfiles.d(5)) leave a socket alone that /proc/net/unix has by the path that they see. One
 * that is too long for that still has a name.
 */
static bool bind_socket(int fd) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int size = snprintf(address.sun_path, sizeof address.sun_path, "%s/forker.sock", run_dir_path);
  if (run_dir_path[0] != '/' || size >= (int)sizeof address.sun_path) snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/forker.sock", run_dir);
  umask(077);
  bool bound = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
  umask(022); /* as functions have it; every file here is made with its mode */
  return bound && fstatat(run_dir, "forker.sock", &socket_name, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool listen_for_daemons(void) {
  unlinkat(run_dir, "forker.sock", 0);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd == -1) return false;
  if (bind_socket(fd) && listen(fd, 8) == 0) {
    if (listener != -1) close(listener);
    listener = fd;
    return true;
  }
  int error = errno;
  close(fd);
  errno = error;
  return false;
}

/* Locks what was opened just now, in the place of what was locked before. */
static bool hold(int fd, int *held, struct stat *name) {
  if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, name) == 0) {
    if (*held != -1) close(*held);
    *held = fd;
    return true;
  }
  int error = errno;
  close(fd);
  errno = error;
  return false;
}

static bool take_lock_file(void) {
  int fd = openat(run_dir, "forker.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  return fd != -1 && hold(fd, &lock_file, &lock_name) && ftruncate(fd, 0) == 0 && dprintf(fd, "%d\n", (int)getpid()) > 0;
}

/*
 * The lock that counts is on the directory of the calls: a cleaner or an administrator may remove files and leaves that,
 * and tmpfiles.d(5) spares what is locked and all that is in it; so the log is locked, too. An earlier version has a lock
 * on the file only.
 */
static bool lock_directory(const char *name, int *held, struct stat *made) {
  int fd = openat(run_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return fd != -1 && hold(fd, held, made);
}

/* All of it was removed, and noded has made another: in this one nothing can be put on file any more. */
static void follow_run_dir(void) {
  struct stat now;
  if (fstat(run_dir, &now) == -1 || now.st_nlink > 0) return;
  int fd = open(run_dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd == -1) return;
  if (dup3(fd, run_dir, O_CLOEXEC) != -1) message("the run directory was removed; the new one is used");
  close(fd);
}

/* Without them the next daemon would not find its calls, and take them for lost. Errors must pass: it looks again. */
static void see_to_names(void) {
  follow_run_dir();
  if (!is_there("calls", &calls_name)) lock_directory("calls", &calls_dir, &calls_name);
  if (!is_there("log", &log_name)) lock_directory("log", &log_dir, &log_name);
  if (!is_there("forker.lock", &lock_name)) take_lock_file();
  if (!is_there("forker.sock", &socket_name)) listen_for_daemons();
  names_at = daemon_fd == -1 ? monotonic_ms() + NAMES_MS : -1;
}

/* ---- the loop ---- */

static bool has_report(void) { return daemon_fd != -1 && out_size > 0 && (hold_until == -1 || monotonic_ms() >= hold_until); }

static int next_timeout(void) {
  if (out_room() && (reap_again || has_whole_frame())) return 0;
  int64_t now = monotonic_ms(), due = sweep_at;
  if (daemon_fd != -1 && out_size > 0 && hold_until != -1 && (due == -1 || hold_until < due)) due = hold_until;
  if (reap_at != -1 && (due == -1 || reap_at < due)) due = reap_at;
  if (rename_at != -1 && (due == -1 || rename_at < due)) due = rename_at;
  if (names_at != -1 && (due == -1 || names_at < due)) due = names_at;
  if (first_young != -1 && (due == -1 || calls[first_young].began + SETTLE_MS < due)) due = calls[first_young].began + SETTLE_MS;
  if (daemon_fd == -1 && live_count == 0 && (due == -1 || idle_since + IDLE_MS < due)) due = idle_since + IDLE_MS;
  if (due == -1) return -1;
  return due <= now ? 0 : (int)(due - now);
}

static bool is_done(void) {
  bool nothing_left = live_count == 0 && jobs_open == 0 && (ended_calls == -1 || blind_sweeps >= BLIND_SWEEPS);
  return nothing_left && (quitting || (daemon_fd == -1 && monotonic_ms() - idle_since >= IDLE_MS));
}

static void run(void) {
  while (!is_done()) {
    /* Another daemon would not hear what the jobs of before it come to. */
    struct pollfd fds[4] = {{child_signals, POLLIN, 0}, {daemon_fd, POLLIN, 0}, {daemon_fd == -1 && jobs_open == 0 ? listener : -1, POLLIN, 0}, {jobs_done, POLLIN, 0}};
    if (has_report()) fds[1].events |= POLLOUT;
    /* A daemon that does not read gets no more to read: then nothing is reaped and nothing is taken. */
    if (!out_room()) {
      fds[0].fd = fds[3].fd = -1;
      fds[1].events = POLLOUT;
    }
    if (poll(fds, 4, next_timeout()) == -1 && errno != EINTR && errno != EAGAIN && errno != ENOMEM) _exit(70);
    if (fds[0].revents) {
      struct signalfd_siginfo info[8];
      while (read(child_signals, info, sizeof info) > 0) {}
    }
    if (has_report()) flush_out();
    if (fds[0].revents || reap_again || (reap_at != -1 && monotonic_ms() >= reap_at)) reap();
    if (daemon_fd != -1 && in_size > 0 && !handle_input()) refuse_daemon("malformed frame");
    if (fds[1].revents) read_daemon();
    if (fds[3].revents) take_done();
    if (fds[2].revents && daemon_fd == -1) accept_daemon();
    settle_due();
    if (rename_at != -1 && monotonic_ms() >= rename_at) name_again();
    if (names_at != -1 && monotonic_ms() >= names_at) see_to_names();
    if (sweep_at != -1 && monotonic_ms() >= sweep_at) sweep();
    if (has_report()) flush_out();
  }
}

/* ---- the start ---- */

__attribute__((noreturn)) static void fail(const char *what) {
  fprintf(stderr, "noded-forker: %s: %s\n", what, strerror(errno));
  _exit(71);
}


static void set_up_signals(void) {
  sigset_t mask;
  /* Not by sigaction(3): it refuses glibc's own two, which posix_spawn(3) of whoever started us leaves ignored. */
  static const unsigned long defaults[8]; /* the kernel's struct, all zero: SIG_DFL, no flags, no mask */
  for (int number = 1; number < NSIG; number++) syscall(SYS_rt_sigaction, number, defaults, NULL, sizeof(uint64_t)); /* KILL and STOP refuse: fine */
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  if (sigprocmask(SIG_SETMASK, &mask, NULL) == -1) fail("sigprocmask");
  child_signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
  if (child_signals == -1) fail("signalfd");
}

#ifndef NODED_FORKER_FUZZ
int main(int argc, char **argv) {
  char text[64];
  const int ready = 3;
  if (argc != 2) {
    fputs("usage: noded-forker RUN_DIR\n", stderr);
    return 64;
  }
  bool says_ready = fcntl(ready, F_SETFD, FD_CLOEXEC) == 0;
  for (int fd; (fd = open("/dev/null", O_RDWR)) <= 2;) /* else a pipe or a file of a call would get such a number */
    if (fd == -1) fail("/dev/null");
  if (syscall(SYS_close_range, says_ready ? ready + 1 : ready, ~0u, 0) == -1 && errno != ENOSYS) fail("close_range");
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) == -1) fail("subreaper");
  prctl(PR_SET_NAME, "noded-forker");
  run_dir_path = argv[1];
  run_dir = open(run_dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (run_dir == -1) fail(argv[1]);
  if (read_small("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id) > 0) boot_id[strcspn(boot_id, "\n")] = '\0';
  reset_oom = read_small("/proc/self/oom_score_adj", text, sizeof text) > 0 && strtol(text, NULL, 10) != 0;
  struct rlimit nofile;
  if (getrlimit(RLIMIT_NOFILE, &nofile) == -1) fail("RLIMIT_NOFILE");
  soft_nofile = nofile.rlim_cur;
  max_young = soft_nofile < 64 ? 0 : soft_nofile > 64 + 2 * MAX_YOUNG ? MAX_YOUNG : (int)(soft_nofile - 64) / 2;
  own_nice = getpriority(PRIO_PROCESS, 0);
  set_up_signals();
  make_table();
  make_crc_table();
  if (!lock_directory("calls", &calls_dir, &calls_name) || !take_lock_file()) fail(errno == EWOULDBLOCK ? "another fork server has this run directory" : "lock");
  if (!listen_for_daemons()) fail("forker.sock");
  if (chdir("/") == -1) fail("/");
  if (!start_thread()) fail("thread");
  idle_since = names_at = monotonic_ms();
  if (says_ready) {
    if (write(ready, "r", 1) != 1) fail("ready");
    close(ready);
  }
  run();
  unlinkat(run_dir, "forker.sock", 0);
  return 0;
}
#endif
