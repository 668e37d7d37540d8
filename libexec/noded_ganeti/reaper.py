"""Ended function processes: reaped, written down and reported, each once."""
import os
import signal
import time

from . import frames
from .spool import moment_now

MAX_UNSPOOLED = 64 * 1024 + 1  # output sent back of a call without files, per stream; one byte over the limit shows
RETRY_SECONDS = 0.010  # after an error of the system that must pass
LOOK_SECONDS = 1  # while calls run: Python ignores it when it cannot write the byte that tells of a SIGCHLD


def _usage(rusage):
    return int(rusage.ru_utime * 1e6), int(rusage.ru_stime * 1e6), rusage.ru_maxrss


class Reaper:
    def __init__(self, calls, leftovers, spool, daemon):
        self._calls = calls
        self._leftovers = leftovers
        self._spool = spool
        self._daemon = daemon
        self._said, self.notices = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)  # functions write into the second
        self._ending_daemon = set()  # keys of calls after which the daemon is to end
        self.is_behind = False  # it stopped for lack of room, and the signal has been read
        self.due = None

    def look_within(self, seconds):
        if self.due is None:
            self.due = time.monotonic() + seconds

    def reap(self):
        """SIGCHLDs coalesce: reaps until there is nothing left."""
        self.due = None
        while True:
            self.is_behind = not self._daemon.has_room()
            if self.is_behind:
                return
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if info is None:
                    if self._calls.running > 0:
                        self.look_within(LOOK_SECONDS)
                    return
                call = self._calls.of_pid(info.si_pid)
                leads = call is not None and call.runs
                if leads and not call.leave_running:
                    call.signal_group(signal.SIGKILL)
                _, status, rusage = os.wait4(info.si_pid, 0)
            except ChildProcessError:
                return
            except OSError:
                self.look_within(RETRY_SECONDS)
                return
            if leads:
                self._end(call, status, rusage)
            self._leftovers.soon()

    def _end(self, call, status, rusage):
        now = moment_now()
        signaled = os.WIFSIGNALED(status)
        code = os.WTERMSIG(status) if signaled else os.WEXITSTATUS(status)
        usage, sizes = _usage(rusage), (0, 0)
        call.runs = False
        self._calls.running -= 1
        self._leftovers.ended(call)
        try:
            if call.spooled:
                sizes = self._spool.ended(call, None if signaled else code, code if signaled else None, now, usage)
            else:
                self._send_output(call, 1, call.out)
                self._send_output(call, 2, call.err)
        finally:  # reaped is reaped: nobody will hear of this end again
            self._daemon.send(frames.ended(call.key, frames.KIND_SIGNALED if signaled else frames.KIND_EXITED, code, frames.STAGE_NONE, now, usage, sizes))
        self._heed_notices()
        if call.key in self._ending_daemon:
            self._ending_daemon.discard(call.key)
            self._daemon.stop_when_sent()

    def _send_output(self, call, stream, fd):
        try:
            content = os.pread(fd, MAX_UNSPOOLED, 0)
        except OSError:
            content = b''
        os.close(fd)
        if content:
            self._daemon.send(frames.output(call.key, stream, content))

    def _heed_notices(self):
        """A function says before it ends that the daemon is to end after it."""
        try:
            notices = os.read(self._said, 4096)
        except BlockingIOError:
            return
        for at in range(0, len(notices), frames.KEY):
            self._ending_daemon.add(notices[at:at + frames.KEY].decode('ascii'))
