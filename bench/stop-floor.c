/*
 * The floor of a stop: starts N programs, each in a session of its own; says "ready"; and once its stdin is
 * closed sends SIGTERM to all of them and reaps them. Prints the seconds that took.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
enum { MOST = 100000 };
static pid_t pids[MOST];

static int stop(int count) {
  struct timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  for (int i = 0; i < count; i++) kill(-pids[i], SIGTERM);
  for (int left = count; left > 0; left--)
    if (waitpid(-1, NULL, 0) == -1) return 71;
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%.6f\n", (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
  return 0;
}

int main(int argc, char **argv) {
  int count = argc == 3 ? atoi(argv[2]) : 0;
  if (count < 1 || count > MOST) {
    fputs("usage: stop-floor PROGRAM N\n", stderr);
    return 64;
  }
  char *args[] = {argv[1], NULL}, byte;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  posix_spawn_file_actions_init(&actions);
  for (int fd = 0; fd < 3; fd++) posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", 2 /* O_RDWR */, 0);
  for (int i = 0; i < count; i++) {
    if (posix_spawn(&pids[i], argv[1], &actions, &attributes, args, environ) == 0) continue;
    stop(i);
    return 71;
  }
  puts("ready");
  fflush(stdout);
  while (read(0, &byte, 1) > 0) {}
  return stop(count);
}
