"""The fork server: its table of calls, its one daemon, and its loop."""
import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback

from . import frames, functions, leftovers, programs, world
from .spool import Spool, wall_ms
from .streams import Parts, open_streams

MAX_CALLS = 16384
IN_SIZE = 2 * frames.MAX_FRAME
OUT_SIZE = 4 * frames.MAX_FRAME
OUT_RESERVE = 2 * frames.MAX_FRAME  # room that one event may need at most
MAX_UNSPOOLED = 64 * 1024 + 1  # output sent back of a call without files, per stream; one byte over the limit shows
FRAMES_A_TURN = 32  # then others are heard
IDLE_SECONDS = 10 * 60  # alone and without calls for so long: leave
RETRY_SECONDS = 0.010  # after an error of the system that must pass
_READY = 3
_PR_SET_CHILD_SUBREAPER = 36
_peer = struct.Struct('iII')


class Call:
    """A call whose process was started. It runs until its leader is reaped; descendants may be left then."""

    __slots__ = ('key', 'leave_running', 'spooled', 'pid', 'start_time', 'runs', 'out', 'err', 'torn', 'quiet')

    def __init__(self, start, pid=0, start_time=0):
        self.key = start.key
        self.leave_running = start.has(frames.LEAVE_RUNNING)
        self.spooled = not start.has(frames.UNSPOOLED)
        self.pid = pid
        self.start_time = start_time
        self.runs = True
        self.out = self.err = -1  # memory files of a call without files
        self.torn = False  # the last line of its journal may be cut short
        self.quiet = 0


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


def _boot_ticks():
    """The clock of field 22 of proc(5) stat, of which the kernel counts 100 a second for programs."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 10000000


def _usage(rusage):
    return int(rusage.ru_utime * 1e6), int(rusage.ru_stime * 1e6), rusage.ru_maxrss


class Server:
    def __init__(self, run_dir, listener, wake, loaded):
        self._listener = listener
        self._wake = wake
        self._functions = loaded
        self._origin = world.Origin()
        with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as file:
            self._spool = Spool(run_dir, file.read().strip(), self._say)
        self._calls = Calls()
        self._leftovers = leftovers.Leftovers(self._calls, self._say)
        self._parts = Parts()
        self._notices, self._notices_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._ending_daemon = set()  # keys of calls after which the daemon is to end
        self._daemon = None
        self._daemon_pid = 0
        self._in, self._out = bytearray(), bytearray()
        self._stop_when_sent = False
        self._quitting = False
        self._reap_again = False  # reaping stopped for lack of room, and the signal has been read
        self._reap_at = None
        self._idle_since = time.monotonic()

    # ---- frames out ----

    def _has_room(self):
        return self._daemon is None or len(self._out) + OUT_RESERVE <= OUT_SIZE

    def _send(self, frame):
        """False if nobody is there to read it."""
        if self._daemon is None or len(self._out) + len(frame) > OUT_SIZE:
            return False
        self._out += frame
        return True

    def _say(self, text):
        self._send(frames.message(text))

    def _flush(self):
        """Writes what the daemon takes. An error is left for the next read: what the daemon sent before it died still counts."""
        try:
            while self._out:
                del self._out[:self._daemon.send(self._out, socket.MSG_NOSIGNAL)]
        except (BrokenPipeError, ConnectionResetError):
            self._out.clear()  # nobody will read it; it is in the journals
        except OSError:
            pass  # it is full; or ENOBUFS, which must pass
        if not self._out and self._stop_when_sent:
            self._stop_when_sent = False
            self._stop_daemon()

    def _stop_daemon(self):
        try:
            os.kill(self._daemon_pid, signal.SIGTERM)
        except OSError:
            pass  # it has gone meanwhile, and its connection is about to

    # ---- starting ----

    def _not_started(self, start, error, stage):
        now = wall_ms()
        if not start.has(frames.UNSPOOLED):
            self._spool.not_started(Call(start), error, stage, now)
        self._parts.drop()
        self._send(frames.ended(start.key, frames.KIND_NOT_STARTED, error, stage, now))

    def _fork(self, start, streams, program):
        """Pid and start time of the function process."""
        before = _boot_ticks()
        if program is None:
            try:
                pid = self._functions.fork(start, streams, self._origin, self._notices_in)
            except OSError as error:
                raise programs.NotStarted(error.errno, frames.STAGE_SPAWN) from error
        else:
            pid = programs.fork_program(start, streams, program, self._origin)
        # The kernel took its time between the two: if they are the same it is that, and /proc need not be asked.
        return pid, before if before == _boot_ticks() else leftovers.start_time_of(pid)

    def _begin(self, start, pid, start_time, streams):
        call = Call(start, pid, start_time)
        if call.leave_running:
            self._leftovers.ever_left_running = True
        if not call.spooled:  # kept, for what is written to them
            call.out, call.err = streams.out, streams.err
            streams.out = streams.err = -1
        self._calls.add(call)
        if call.spooled:
            if not start.has(frames.INLINE):
                self._spool.unlink(call.key, 'args')
            self._spool.started(call)
        self._send(frames.started(call.key, pid, start_time))

    def _try_start(self, start):
        """Raises NotStarted."""
        calls_program = not start.program.startswith(functions.PREFIX)
        program, streams, stage = None, None, frames.STAGE_JOURNAL
        try:
            if start.accepted:
                self._spool.make_journal(start.key, start.accepted)
            stage = frames.STAGE_EXEC
            if not calls_program and not self._functions.has(start.program):
                raise programs.NotStarted(errno.ENOENT, stage)
            program = programs.open_program(start.program) if calls_program else None
            stage = frames.STAGE_OPEN
            streams = open_streams(start, self._spool, self._parts, calls_program)
            self._begin(start, *self._fork(start, streams, program), streams)
        except OSError as error:
            raise programs.NotStarted(error.errno, stage) from error
        finally:
            if program is not None:
                os.close(program)
            if streams is not None:
                streams.close()

    def _start(self, start):
        if self._quitting or len(self._calls) >= MAX_CALLS:
            # Nothing is on file of it, and nothing need be.
            self._not_started(start, errno.EAGAIN, frames.STAGE_JOURNAL if start.accepted else frames.STAGE_SPAWN)
            return
        try:
            self._try_start(start)
        except programs.NotStarted as problem:
            # Parts are used up: that start cannot be tried again.
            if problem.error == errno.ETXTBSY and not start.flags & (frames.LAST_TRY | frames.PARTS):
                self._busy(start)
            else:
                self._not_started(start, problem.error, problem.stage)
        except Exception:
            if self._calls.of_key(start.key) is None:  # a bug must not leave anybody waiting
                self._not_started(start, errno.EIO, frames.STAGE_SPAWN)
            raise

    def _busy(self, start):
        """A package upgrade is writing the program: rare and short. The daemon asks again; nobody else waits for that here."""
        for kind in ('out', 'err'):
            self._spool.unlink(start.key, kind)
        if not self._send(frames.busy(start.key)):
            self._not_started(start, errno.ETXTBSY, frames.STAGE_EXEC)  # nobody is there to ask again

    # ---- ending ----

    def _send_output(self, call, stream, fd):
        try:
            content = os.pread(fd, MAX_UNSPOOLED, 0)
        except OSError:
            content = b''
        os.close(fd)
        if content:
            self._send(frames.output(call.key, stream, content))

    def _end(self, call, status, rusage):
        now = wall_ms()
        signaled = os.WIFSIGNALED(status)
        code = os.WTERMSIG(status) if signaled else os.WEXITSTATUS(status)
        usage, sizes = _usage(rusage), (0, 0)
        if call.spooled:
            self._spool.ended(call, None if signaled else code, code if signaled else None, now, usage)
            sizes = self._spool.trimmed_size(call.key, 'out'), self._spool.trimmed_size(call.key, 'err')
        else:
            self._send_output(call, 1, call.out)
            self._send_output(call, 2, call.err)
        self._send(frames.ended(call.key, frames.KIND_SIGNALED if signaled else frames.KIND_EXITED, code, frames.STAGE_NONE, now, usage, sizes))
        call.runs = False
        self._calls.running -= 1
        self._leftovers.ended(call)
        self._heed_notices()
        if call.key in self._ending_daemon:
            self._ending_daemon.discard(call.key)
            self._stop_when_sent = self._daemon is not None

    def _heed_notices(self):
        """A function says before it ends that the daemon is to end after it."""
        try:
            notices = os.read(self._notices, 4096)
        except BlockingIOError:
            return
        for at in range(0, len(notices), frames.KEY):
            self._ending_daemon.add(notices[at:at + frames.KEY].decode('ascii'))

    def _reap(self):
        """SIGCHLDs coalesce: reaps until there is nothing left."""
        self._reap_at = None
        while True:
            self._reap_again = not self._has_room()
            if self._reap_again:
                return
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if info is None:
                    return
                call = self._calls.of_pid(info.si_pid)
                leads = call is not None and call.runs
                # The leader is not reaped yet, so its number cannot be another's.
                if leads and not call.leave_running:
                    self._kill_group(call, signal.SIGKILL)
                _, status, rusage = os.wait4(info.si_pid, 0)
            except ChildProcessError:
                return
            except OSError:
                self._reap_at = time.monotonic() + RETRY_SECONDS
                return
            if leads:
                self._end(call, status, rusage)
            self._leftovers.soon()

    # ---- frames in ----

    @staticmethod
    def _kill_group(call, number):
        try:
            os.kill(-call.pid, number)
        except OSError:
            pass  # nobody of the group is left; or it became another user's, whom only root could signal

    def _signal(self, key, what):
        call = self._calls.of_key(key)
        if call is None or not call.runs:
            return  # its end is on the way to the daemon
        if what == frames.KILL:
            self._kill_group(call, signal.SIGKILL)
        else:
            self._kill_group(call, signal.SIGTERM)
            self._kill_group(call, signal.SIGCONT)

    def _quit(self):
        self._quitting = True
        for call in self._calls.all():
            if call.runs:
                self._kill_group(call, signal.SIGKILL)
        self._leftovers.soon()

    def _take(self, kind, content):
        if kind == 'S':
            if self._calls.of_key(content.key) is not None:
                raise frames.Malformed('a key that is in use')  # it would mean another call's files
            self._start(content)
        elif kind == 'P':
            if not self._parts.add(*content):
                raise frames.Malformed('arguments over any limit')
        elif kind == 'K':
            self._signal(*content)
        else:
            self._quit()

    def _has_whole_frame(self):
        try:
            return frames.whole_frame(self._in, 0) > 0
        except frames.Malformed:
            return True

    def _handle_input(self):
        """Handles whole frames, as long as there is room for what they lead to. Raises Malformed."""
        at = 0
        try:
            for _ in range(FRAMES_A_TURN):
                size = frames.whole_frame(self._in, at) if self._has_room() else 0
                if size == 0:
                    return
                frame = frames.read_frame(self._in, at, size)
                at += size
                self._take(*frame)
        finally:
            del self._in[:at]

    def _drop_daemon(self):
        if self._daemon is not None:
            self._daemon.close()
        self._daemon = None
        self._in.clear()
        self._out.clear()
        self._stop_when_sent = False
        self._parts.drop()
        self._idle_since = time.monotonic()

    def _take_frames(self):
        try:
            self._handle_input()
        except frames.Malformed as problem:
            self._say('malformed frame: %s' % problem)
            self._flush()
            self._drop_daemon()

    def _bury_daemon(self):
        """The connection is at its end: what the daemon had sent is still carried out, and its answers go to the journals only."""
        self._daemon.close()
        self._daemon = None
        self._out.clear()
        try:
            while self._has_whole_frame():
                self._handle_input()
        except frames.Malformed:
            pass
        self._drop_daemon()

    def _read_daemon(self):
        if len(self._in) >= IN_SIZE or not self._has_room():
            return
        try:
            got = self._daemon.recv(IN_SIZE - len(self._in))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            if error.errno == errno.ENOMEM:
                return
            got = b''
        if not got:
            self._bury_daemon()
            return
        self._in += got
        self._take_frames()

    # ---- the daemon: one at a time ----

    def _welcome(self):
        for name in self._functions.names:
            self._send(frames.name(name))
        for call in self._calls.all():
            if not call.runs:
                continue
            self._send(frames.live(call.key, call.pid, call.start_time))
            if self._has_room():
                continue
            select.select([], [self._daemon], [], 1)
            self._flush()
            if not self._has_room():  # it does not read: it is no daemon
                self._drop_daemon()
                return
        self._send(frames.welcome(os.getpid()))

    def _accept(self):
        try:
            daemon, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            time.sleep(RETRY_SECONDS)  # EMFILE, ENOMEM: it must pass, and whoever connects stays in the queue
            return
        daemon.setblocking(False)
        pid, uid, _ = _peer.unpack(daemon.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _peer.size))
        if uid not in (0, os.getuid()):
            daemon.close()
            return
        if self._functions.are_outdated() and self._calls.running == 0:
            daemon.close()  # it comes again, and starts another in this one's place
            self._quit()
            return
        self._daemon, self._daemon_pid = daemon, pid
        self._welcome()
        if self._functions.are_outdated():
            self._say('Ganeti was upgraded, but calls of the old one still run: new ones run with the old one too, until noded starts when there are none')

    # ---- the loop ----

    def _next_timeout(self):
        """Milliseconds; None is for ever."""
        if self._has_room() and (self._reap_again or (self._daemon is not None and self._has_whole_frame())):
            return 0
        due = [at for at in (self._leftovers.due, self._reap_at) if at is not None]
        if self._daemon is None and self._calls.running == 0:
            due.append(self._idle_since + IDLE_SECONDS)
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1) if due else None

    def _is_done(self):
        if self._calls.running > 0 or not self._leftovers.is_done:
            return False
        return self._quitting or (self._daemon is None and time.monotonic() - self._idle_since >= IDLE_SECONDS)

    def _wait(self):
        """Events by descriptor. A daemon that does not read gets no more to read: then nothing is reaped and nothing is taken."""
        poll = select.poll()
        if self._has_room():
            poll.register(self._wake, select.POLLIN)
        if self._daemon is None:
            poll.register(self._listener, select.POLLIN)
        else:
            poll.register(self._daemon, (select.POLLIN if self._has_room() else 0) | (select.POLLOUT if self._out else 0))
        try:
            return dict(poll.poll(self._next_timeout()))
        except OSError:
            time.sleep(RETRY_SECONDS)
            return {}

    def _turn(self):
        ready = self._wait()
        if self._wake in ready:
            os.read(self._wake, 4096)
        if self._wake in ready or self._reap_again or (self._reap_at is not None and time.monotonic() >= self._reap_at):
            self._reap()
        if self._daemon is not None and self._in:
            self._take_frames()
        if self._daemon is not None and ready.get(self._daemon.fileno(), 0) & ~select.POLLOUT:
            self._read_daemon()
        if self._daemon is None and self._listener.fileno() in ready:
            self._accept()
        if self._leftovers.due is not None and time.monotonic() >= self._leftovers.due:
            self._leftovers.sweep()
        if self._daemon is not None and self._out:
            self._flush()

    def run(self):
        while not self._is_done():
            try:
                self._turn()
            except Exception:  # pylint: disable=broad-except
                # A bug, or no memory: the calls must not pay for it.
                self._say('an error of its own: %s' % traceback.format_exc(limit=-2))
                time.sleep(RETRY_SECONDS)


def _fail(what, error):
    sys.stderr.write('noded-ganeti: %s: %s\n' % (what, error))
    sys.exit(71)


def _close_inherited(says_ready):
    for name in os.listdir('/proc/self/fd'):
        if int(name) > _READY or (int(name) == _READY and not says_ready):
            try:
                os.close(int(name))
            except OSError:
                pass  # the directory's own


def _is_open(fd):
    try:
        os.set_inheritable(fd, False)
        return True
    except OSError:
        return False


def _set_up_signals():
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    for number in world.IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading


def _take_lock(run_dir):
    fd = os.open('forker.lock', os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=run_dir)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _fail('forker.lock', 'another fork server has this run directory')
    os.ftruncate(fd, 0)
    os.write(fd, b'%d\n' % os.getpid())  # for whoever looks for it


def _listen(run_dir):
    try:
        os.unlink('forker.sock', dir_fd=run_dir)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind('/proc/self/fd/%d/forker.sock' % run_dir)  # however long the path is
    listener.listen(8)
    listener.setblocking(False)
    return listener


def _become_subreaper():
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1:
        _fail('subreaper', os.strerror(ctypes.get_errno()))
    world.name_process(b'noded-ganeti')


def _prepare(path):
    """The run directory's descriptor, the listener, what signals wake, and the functions."""
    _become_subreaper()
    run_dir = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    os.chdir('/')
    os.umask(0o077)  # as Ganeti's functions have it; every file of this process is made with its mode
    wake = _set_up_signals()
    _take_lock(run_dir)
    try:
        loaded = functions.load(run_dir)
    except Exception as error:  # pylint: disable=broad-except
        _fail('cannot load the functions of Ganeti', '%s: %s' % (type(error).__name__, error))
    return run_dir, _listen(run_dir), wake, loaded


def main(argv):
    if len(argv) != 2:
        sys.stderr.write('usage: noded-ganeti RUN_DIR\n')
        sys.exit(64)
    try:
        says_ready = _is_open(_READY)
        _close_inherited(says_ready)
        null = os.open('/dev/null', os.O_RDWR)
        while null <= 2:  # else a pipe or a file of a call would get such a number
            null = os.open('/dev/null', os.O_RDWR)
        run_dir, *parts = _prepare(argv[1])
        server = Server(run_dir, *parts)
        os.dup2(null, 0)
        os.dup2(null, 1)
        if says_ready:
            os.write(_READY, b'r')
            os.close(_READY)
        os.dup2(null, 2)  # nobody reads it any more
        os.close(null)
    except OSError as error:
        _fail(error.filename or 'start', error.strerror)
    server.run()
    try:
        os.unlink('forker.sock', dir_fd=run_dir)
    except OSError:
        pass
