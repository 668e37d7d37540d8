/*
 * The fork server's frames and lines, for spec/golden: one request a line on standard input, one answer a line on standard
 * output. "decode HEX" gives what a frame of noded says, its words separated by spaces and its texts in hexadecimal
 * digits; "TYPE ..." makes a frame from such words, "line KEY JSON" a line of the log.
 */
#define NODED_FORKER_FUZZ

struct start;
static void start_call(const struct start *start, const unsigned char *frame, unsigned long size);
static _Bool add_part(const char *key, const unsigned char *bytes, unsigned long size);

#include "../../libexec/noded-forker.c"

static void print_hex(const void *bytes, size_t size) {
  if (size == 0) printf("-");
  for (size_t i = 0; i < size; i++) printf("%02x", ((const uint8_t *)bytes)[i]);
}

static size_t read_hex(const char *text, uint8_t *bytes) {
  size_t size = 0;
  unsigned byte;
  while (sscanf(text + 2 * size, "%2x", &byte) == 1) bytes[size++] = (uint8_t)byte;
  return size;
}

static void start_call(const struct start *start, const uint8_t *frame, size_t size) {
  (void)frame;
  (void)size;
  printf("S %s %u %u %u %d %llu ", start->key, start->flags, start->uid, start->gid, start->nice, (unsigned long long)start->fsize);
  print_hex(start->program, strlen(start->program));
  for (int i = 0; start->env[i] != NULL; i++) {
    printf(" ");
    print_hex(start->env[i], strlen(start->env[i]));
  }
  printf(" ");
  print_hex(start->args, start->args_size);
  printf(" ");
  print_hex(start->accepted, start->accepted_size);
}

static bool add_part(const char *key, const uint8_t *bytes, size_t size) {
  printf("P %s ", key);
  print_hex(bytes, size);
  return true;
}

static void decode(const char *hex) {
  in_size = read_hex(hex, in);
  quitting = false;
  segment_busy = true; /* so that a segment is noted, and not opened */
  next_segment = 0;
  if (!handle_input()) printf("malformed");
  if (next_segment != 0) printf("G %u", next_segment);
  if (quitting) printf("Q");
}

static void encode(const char *words) {
  struct call call = {.out = -1, .err = -1};
  struct written written = {0};
  struct usage usage;
  struct moment at;
  long long wall, boot;
  unsigned long long start_time, out_bytes, err_bytes, user, system, rss;
  int pid, kind, code, stage, stream;
  char key[KEY + 1], noted[2 * MAX_NOTED + 1], text[1024], type;
  unsigned number;
  out_size = 0;
  if (sscanf(words, "%c %16s %d %llu %lld %lld", &type, key, &pid, &start_time, &wall, &boot) == 6 && (type == 'L' || type == 'A')) {
    memcpy(call.key, key, sizeof key);
    call.pid = pid;
    call.start_time = start_time;
    call.started = (struct moment){wall, boot};
    report_started(&call, type);
  } else if (sscanf(words, "E %16s %d %d %d %lld %llu %llu %llu %llu %llu %lld %1024s", key, &kind, &code, &stage, &wall, &user, &system, &rss, &out_bytes, &err_bytes, &boot, noted) == 12) {
    usage = (struct usage){user, system, rss};
    at = (struct moment){wall, boot};
    written.out = out_bytes;
    written.err = err_bytes;
    written.noted = noted[0] != '-';
    if (written.noted) read_hex(noted, written.bytes);
    report_ended(key, (uint8_t)kind, code, (uint8_t)stage, at, usage, &written);
  } else if (sscanf(words, "O %16s %d %1023s", key, &stream, text) == 3) {
    int fd = memfd_create("output", MFD_CLOEXEC);
    uint8_t bytes[512];
    size_t size = read_hex(text, bytes);
    if (write(fd, bytes, size) != (ssize_t)size) return;
    memcpy(call.key, key, sizeof key);
    send_output(&call, (uint8_t)stream, fd);
    close(fd);
  } else if (sscanf(words, "G %u", &number) == 1) {
    struct job job = {.segment = number, .done = true};
    next_segment = 0;
    finish_segment(&job);
  } else if (sscanf(words, "B %16s", key) == 1) {
    struct call *busy = new_call();
    struct job job = {.again = true};
    memcpy(busy->key, key, sizeof key);
    index_key(busy);
    finish_not_started(busy, &job);
  } else if (words[0] == 'W') {
    welcome();
  } else if (sscanf(words, "M %1023s", text) == 1) {
    uint8_t bytes[513] = {0};
    read_hex(text, bytes);
    message("%s", (const char *)bytes);
  }
  print_hex(out, out_size);
}

static void make_line(const char *words) {
  char key[KEY + 1], text[1024];
  uint8_t json[513] = {0};
  struct lines lines;
  if (sscanf(words, "line %16s %1023s", key, text) != 2) return;
  read_hex(text, json);
  begin_lines(&lines);
  begin_line(&lines, key, "%s", (const char *)json);
  end_line(&lines);
  /* Every append begins with a newline, which belongs to no line. */
  print_hex(lines.text + 1, lines.size - 1);
}

int main(void) {
  static char line[4 * 1024];
  make_table();
  make_crc_table();
  daemon_fd = 1;
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (strncmp(line, "decode ", 7) == 0) decode(line + 7);
    else if (strncmp(line, "line ", 5) == 0) make_line(line);
    else encode(line);
    printf("\n");
  }
  return 0;
}
