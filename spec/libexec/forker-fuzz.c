/*
 * A fuzzer of the fork server's frame parser, for libFuzzer: whatever bytes a daemon sends, the parser stays
 * inside its buffer, and every string and the arguments of a start that it accepts can be read to their ends.
 */
#define NODED_FORKER_FUZZ

struct start;
static void start_call(const struct start *start, const unsigned char *frame, unsigned long size);
static _Bool add_part(const char *key, const unsigned char *bytes, unsigned long size);

#include "../../libexec/noded-forker.c"

static volatile size_t seen;

static void start_call(const struct start *start, const uint8_t *frame, size_t size) {
  seen += strlen(start->key) + strlen(start->program);
  for (int i = 0; start->env[i] != NULL; i++) seen += strlen(start->env[i]);
  for (uint32_t i = 0; i < start->args_size; i++) seen += start->args[i];
  for (uint16_t i = 0; i < start->accepted_size; i++) seen += start->accepted[i];
  for (size_t i = 0; i < size; i++) seen += frame[i];
}

static bool add_part(const char *key, const uint8_t *bytes, size_t size) {
  seen += strlen(key);
  for (size_t i = 0; i < size; i++) seen += bytes[i];
  return size < MAX_FRAME / 2;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static int made;
  if (!made++) make_table();
  if (size > IN_SIZE) size = IN_SIZE;
  memcpy(in, data, size);
  in_size = size;
  quitting = false;
  while (has_whole_frame() && handle_input()) {}
  return 0;
}
