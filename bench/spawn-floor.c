/* The floor of calls/s: a bare loop of posix_spawn and waitpid, N programs, so many at a time. Prints seconds. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

int main(int argc, char **argv) {
  if (argc != 4) {
    fputs("usage: spawn-floor PROGRAM N AT_A_TIME\n", stderr);
    return 64;
  }
  int total = atoi(argv[2]), at_a_time = atoi(argv[3]), started = 0, ended = 0;
  char *args[] = {argv[1], NULL};
  struct timespec begin, end;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", 1 /* O_WRONLY */, 0);
  clock_gettime(CLOCK_MONOTONIC, &begin);
  while (ended < total) {
    pid_t pid;
    if (started < total && started - ended < at_a_time) {
      if (posix_spawn(&pid, argv[1], &actions, NULL, args, environ) != 0) return 71;
      started++;
    } else if (waitpid(-1, NULL, 0) > 0) {
      ended++;
    }
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%.6f\n", (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
  return 0;
}
