/* Reads the name of a fifo, a JSON string, from stdin; prints 1 and ends once somebody has opened that to write. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int main(void) {
  char text[4096];
  ssize_t size = read(0, text, sizeof text - 1);
  if (size < 3) return 64;
  text[size] = '\0';
  char *end = strrchr(text, '"');
  if (text[0] != '"' || end == text) return 64;
  *end = '\0';
  alarm(600);
  if (open(text + 1, O_RDONLY) == -1) return 66;
  return write(1, "1", 1) != 1;
}
