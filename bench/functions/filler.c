/* Reads a number from stdin and prints a JSON string of so many bytes, quotes included. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char block[64 * 1024];

static int put(const char *bytes, size_t size) {
  for (size_t at = 0; at < size;) {
    ssize_t wrote = write(1, bytes + at, size - at);
    if (wrote <= 0) return 0;
    at += (size_t)wrote;
  }
  return 1;
}

int main(void) {
  char text[64];
  ssize_t size = read(0, text, sizeof text - 1);
  if (size < 1) return 64;
  text[size] = '\0';
  long long left = atoll(text);
  if (left < 2) return 64;
  memset(block, 'x', sizeof block);
  /* The first and the last byte are the quotes; one write where it fits into a block. */
  block[0] = '"';
  while (left > 0) {
    size_t now = left < (long long)sizeof block ? (size_t)left : sizeof block;
    left -= (long long)now;
    if (left == 0) block[now - 1] = '"';
    if (!put(block, now)) return 74;
    block[0] = 'x';
  }
  return 0;
}
