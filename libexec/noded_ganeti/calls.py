"""The calls whose processes were started, by pid and by key."""
import os

from . import frames

MAX_CALLS = 16384


class Call:
    """A call whose process was started. It runs until its leader is reaped; descendants may be left then."""

    __slots__ = ('key', 'leave_running', 'spooled', 'pid', 'start_time', 'started', 'runs', 'out', 'err', 'quiet')

    def __init__(self, start, pid=0, start_time=0, started=None):
        self.key = start.key
        self.leave_running = start.has(frames.LEAVE_RUNNING)
        self.spooled = not start.has(frames.UNSPOOLED)
        self.pid = pid
        self.start_time = start_time
        self.started = started  # whatever the function does is later
        self.runs = True
        self.out = self.err = -1  # memory files of a call without files
        self.quiet = 0

    def signal_group(self, number):
        """To its whole process group, while it is not reaped: so the number is its own. Just forked it has no group yet, only itself."""
        for target in (-self.pid, self.pid):
            try:
                os.kill(target, number)
                return
            except ProcessLookupError:
                pass
            except OSError:
                return  # it became another user's, whom only root could signal


class Calls:
    """All of them, by pid and by key."""

    def __init__(self):
        self._by_pid = {}
        self._by_key = {}
        self.running = 0

    def add(self, call):
        self._by_pid[call.pid] = self._by_key[call.key] = call
        self.running += 1

    def drop(self, call):
        del self._by_key[call.key]
        if self._by_pid.get(call.pid) is call:
            del self._by_pid[call.pid]

    def of_pid(self, pid):
        return self._by_pid.get(pid)

    def of_key(self, key):
        return self._by_key.get(key)

    def all(self):
        return self._by_key.values()

    def __len__(self):
        return len(self._by_key)
