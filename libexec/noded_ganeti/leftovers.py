"""What ended calls left behind: orphans come to the fork server, because it is their subreaper. As noded-forker does it."""
import errno
import os
import signal
import time

from . import calls

SWEEP_SECONDS = 0.010  # between two looks for orphans, at least
STUBBORN_SWEEPS = 100  # so many looks in a row killed something: it cannot be killed, or forks as fast
STUBBORN_SWEEP_SECONDS = 0.100
BLIND_SWEEPS = 20  # so many looks in a row could not be made: nothing waits for them any more
BLIND_SWEEP_SECONDS = 1.0
SAY_AGAIN_SECONDS = 60  # what was said and passed is not said again sooner
MAX_SPARED = 4096  # orphans that are to be left alone
_KEY_VARIABLE = b'NODED_CALL_KEY='
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def _read(path):
    """Nothing of a process that is gone. Raises OSError if it cannot be read for want of descriptors or memory."""
    try:
        with open(path, 'rb') as file:
            return file.read() or b''  # None if the kernel would rather not
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise
        return b''


def _stat_fields(pid):
    """Fields 3 and on of proc(5) stat; the name before them may hold anything."""
    text = _read('/proc/%d/stat' % pid)
    return text[text.rfind(b')') + 2:].split()


def start_time_of(pid):
    try:
        fields = _stat_fields(pid)
    except OSError:
        return 0
    return int(fields[19]) if len(fields) > 19 else 0


class _Process:
    """A living child of this process; None instead of one that is gone or a zombie."""

    __slots__ = ('pid', 'group', 'session', 'start_time')

    @classmethod
    def read(cls, pid):
        fields = _stat_fields(pid)
        if len(fields) < 20 or fields[0] == b'Z' or int(fields[1]) != os.getpid():
            return None
        process = cls()
        process.pid, process.group, process.session, process.start_time = pid, int(fields[2]), int(fields[3]), int(fields[19])
        return process


def _key_of(pid):
    """The key that a process carries in its environment; None if there is none. Raises OSError in the middle of an exec, or of its end: then nothing is known of it yet."""
    environment = _read('/proc/%d/environ' % pid)
    if not environment and not _read('/proc/%d/cmdline' % pid):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    for variable in environment.split(b'\0'):
        if variable.startswith(_KEY_VARIABLE):
            return variable[len(_KEY_VARIABLE):].decode('latin-1')
    return None


class _Said:
    """Says once that something is so, to whoever listens then; again only after it was not."""

    def __init__(self, complain, what):
        self._complain = complain
        self._what = what
        self._is_so = False
        self._again_at = 0

    def passed(self):
        self._is_so = False

    def say(self, error):
        if not self._is_so and time.monotonic() >= self._again_at and self._complain('%s: %s' % (self._what, error.strerror)):
            self._is_so = True
            self._again_at = time.monotonic() + SAY_AGAIN_SECONDS


class Leftovers:
    """Finds and kills them. `table` are the calls of the server; an ended call is dropped from it once nothing of it is found."""

    def __init__(self, table, complain):
        self._calls = table
        self._complain = complain
        self._ended = []
        self._spared = set()
        self._killing_sweeps = 0
        self._blind_sweeps = 0
        self._has_no_list = _Said(complain, 'has no list of its children, and looks through all of /proc')
        self._has_no_proc = _Said(complain, 'cannot look for what functions left behind, and tries again: /proc')
        self._pause = SWEEP_SECONDS
        self.ever_left_running = False
        self.due = None

    @property
    def is_done(self):
        return not self._ended or self._blind_sweeps >= BLIND_SWEEPS

    def make_room(self):
        """Whether there is room for one more call: it does not wait for looks at what ended ones left behind."""
        if len(self._calls) >= calls.MAX_CALLS and self._ended:
            self._calls.drop(self._ended.pop(0))
        return len(self._calls) < calls.MAX_CALLS

    def ended(self, call):
        if call.leave_running:
            self._calls.drop(call)  # nothing of it is ever killed, so nothing must be known of it
            return
        call.quiet = 0
        self._ended.append(call)

    def soon(self):
        # What functions left running is not killed: without an ended call of another kind there is nothing to look for.
        if self.due is None and (self._ended or not self.ever_left_running):
            self.due = time.monotonic() + self._pause

    def sweep(self):
        begin = time.monotonic()
        killed, looked = self._look()
        if looked:
            for call in self._ended:
                call.quiet += 1
                if call.quiet >= 2:  # a list of children that is read while it changes may miss one
                    self._calls.drop(call)
            self._ended = [call for call in self._ended if call.quiet < 2]
        took = time.monotonic() - begin
        self._blind_sweeps = 0 if looked else self._blind_sweeps + 1
        self._killing_sweeps = self._killing_sweeps + 1 if killed else 0
        if self._killing_sweeps == STUBBORN_SWEEPS:
            self._complain('what functions left behind does not die of SIGKILL, or comes again as fast')
        pause = SWEEP_SECONDS if self._killing_sweeps < STUBBORN_SWEEPS and self._blind_sweeps == 0 else STUBBORN_SWEEP_SECONDS
        if self._blind_sweeps > BLIND_SWEEPS:
            pause = BLIND_SWEEP_SECONDS
        self._pause = max(pause, took * 9)  # at most a tenth of a core
        self.due = time.monotonic() + self._pause if killed or not looked or self._ended else None

    def _children(self):
        """
        All of them, and perhaps others; None if that cannot be known. A kernel without CONFIG_PROC_CHILDREN, or a /proc
        that hides it, has no list of them: then it is every process of the machine.
        """
        try:
            with open('/proc/self/task/%d/children' % os.getpid(), 'rb') as file:
                children = (file.read() or b'').split()
            self._has_no_list.passed()
        except OSError as error:
            self._has_no_list.say(error)
            try:
                children = [name for name in os.listdir('/proc') if name.isdigit()]
                self._has_no_proc.passed()
            except OSError as worse:
                self._has_no_proc.say(worse)
                return None
        return [int(pid) for pid in children]

    def _look(self):
        """Looks at every child once. What is killed orphans its own children to us: the next look finds those."""
        children = self._children()
        if children is None:
            return False, False
        killed, looked = False, True
        for pid in children:
            try:
                killed = self._look_at(pid) or killed
            except OSError:
                looked = False  # it may well be there
        return killed, looked

    def _look_at(self, pid):
        owner = self._calls.of_pid(pid)
        if owner is not None and owner.runs:
            return False
        process = _Process.read(pid)
        if process is None:
            return False
        must_die, owner = self._judge(process)
        if not must_die:
            return False
        os.kill(pid, signal.SIGKILL)  # an unreaped child of ours: the number cannot be another's
        if owner is not None:
            owner.quiet = 0
        return True

    def _judge(self, process):
        """Whether an orphan is to be killed, and the ended call that it belongs to, if that is known."""
        if (process.pid, process.start_time) in self._spared:
            return False, None
        owner = self._calls.of_pid(process.session) or self._calls.of_pid(process.group)
        key = None
        if owner is None:
            key = _key_of(process.pid)
            owner = self._calls.of_key(key)
        if owner is not None and owner.runs:
            return False, owner
        if owner is not None and not owner.leave_running:
            return True, owner
        # With the key of a call that is forgotten here it was hidden behind another process when that was looked at.
        if owner is None and not self.ever_left_running and (key is not None or self._has_no_owner_left(process)):
            return True, None
        if key is not None:
            self._spare(process)
        return False, None

    def _has_no_owner_left(self, process):
        """An orphan that hid its origin belongs to a call that began before it: once all of those have ended it may go."""
        return not any(call.runs and call.start_time <= process.start_time for call in self._calls.all())

    def _spare(self, process):
        if len(self._spared) >= MAX_SPARED:
            self._spared.clear()  # forgetting only means looking again
        self._spared.add((process.pid, process.start_time))
