"""The fork server: what it does with frames, and with a daemon that comes or goes."""
import errno
import os
import select
import signal
import time
import traceback

from . import frames, functions, leftovers, programs, world
from .calls import Call, Calls
from .connection import Connection
from .reaper import LOOK_SECONDS, RETRY_SECONDS, Reaper
from .spool import Spool, moment_now
from .streams import Parts, open_streams

FRAMES_A_TURN = 32  # then others are heard
LOOK_AT_NAMES_SECONDS = 1  # while alone
IDLE_SECONDS = 10 * 60  # alone and without calls for so long: leave


def _ticks(at):
    """By the clock of field 22 of proc(5) stat, of which the kernel counts 100 a second for programs."""
    return at.boot_ms // 10


class Server:
    def __init__(self, run_dir, names, wake, loaded):
        self._names = names
        self._wake = wake
        self._functions = loaded
        self._daemon = Connection()
        self._origin = world.Origin()
        with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as file:
            self._spool = Spool(run_dir, file.read().strip(), self._daemon.say)
        self._calls = Calls()
        self._leftovers = leftovers.Leftovers(self._calls, self._daemon.say)
        self._parts = Parts()
        self._reaper = Reaper(self._calls, self._leftovers, self._spool, self._daemon)
        self._quitting = False
        self._idle_since = self._names.due = time.monotonic()

    # ---- starting ----

    def _not_started(self, start, error, stage):
        now = moment_now()
        if not start.has(frames.UNSPOOLED):
            self._spool.not_started(Call(start), error, stage, now)
        self._parts.drop()
        if error == errno.ENOENT and stage == frames.STAGE_JOURNAL and self._names.due is None:
            # Then noded makes the directories again, and the next start shall find them.
            self._names.due = time.monotonic() + RETRY_SECONDS
        self._daemon.send(frames.ended(start.key, frames.KIND_NOT_STARTED, error, stage, now))

    def _fork(self, start, streams, program):
        """Pid and start time of the function process, and the moment before it."""
        before = moment_now()
        if program is None:
            try:
                pid = self._functions.fork(start, streams, self._origin, self._reaper.notices)
            except OSError as error:
                raise programs.NotStarted(error.errno, frames.STAGE_SPAWN) from error
        else:
            pid = programs.fork_program(start, streams, program, self._origin)
        # The kernel took its time between the two: if they are the same it is that, and /proc need not be asked.
        return pid, _ticks(before) if _ticks(before) == _ticks(moment_now()) else leftovers.start_time_of(pid), before

    def _begin(self, start, pid, start_time, started, streams):
        call = Call(start, pid, start_time, started)
        if call.leave_running:
            self._leftovers.ever_left_running = True
        if not call.spooled:  # kept, for what is written to them
            call.out, call.err = streams.out, streams.err
            streams.out = streams.err = -1
        self._calls.add(call)
        self._reaper.look_within(LOOK_SECONDS)
        if call.spooled:
            if not start.has(frames.INLINE):
                self._spool.unlink(call.key, 'args')
            self._spool.started(call)
        self._daemon.send(frames.started(call.key, pid, start_time, started))

    def _try_start(self, start):
        """Raises NotStarted."""
        calls_program = not start.program.startswith(functions.PREFIX)
        program, streams, stage = None, None, frames.STAGE_JOURNAL
        try:
            if start.accepted:
                self._spool.accepted(start.accepted)
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
        if self._quitting or not self._leftovers.make_room():
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
        if not self._daemon.send(frames.busy(start.key)):
            self._not_started(start, errno.ETXTBSY, frames.STAGE_EXEC)  # nobody is there to ask again

    # ---- frames in ----

    def _signal(self, key, what):
        call = self._calls.of_key(key)
        if call is None or not call.runs:
            return  # its end is on the way to the daemon
        if what == frames.KILL:
            call.signal_group(signal.SIGKILL)
        else:
            call.signal_group(signal.SIGTERM)
            call.signal_group(signal.SIGCONT)

    def _quit(self):
        self._quitting = True
        for call in self._calls.all():
            if call.runs:
                call.signal_group(signal.SIGKILL)
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
        elif kind == 'G':
            self._use_segment(content)
        else:
            self._quit()

    def _use_segment(self, number):
        try:
            try:
                self._spool.use_segment(number)
            except FileNotFoundError:
                self._names.see_to()  # in another run directory, where whoever looks for them must find them
                self._spool.use_segment(number)
        except OSError as error:
            self._daemon.say('segment %d of the log: %s' % (number, error))
        else:
            self._daemon.send(frames.segment(number))

    def _has_whole_frame(self):
        try:
            return frames.whole_frame(self._daemon.incoming, 0) > 0
        except frames.Malformed:
            return True

    def _handle_input(self):
        """Handles whole frames, as long as there is room for what they lead to. Raises Malformed."""
        at = 0
        try:
            for _ in range(FRAMES_A_TURN):
                size = frames.whole_frame(self._daemon.incoming, at) if self._daemon.has_room() else 0
                if size == 0:
                    return
                frame = frames.read_frame(self._daemon.incoming, at, size)
                at += size
                self._take(*frame)
        finally:
            del self._daemon.incoming[:at]

    def _drop_daemon(self):
        self._daemon.close()
        self._daemon.incoming.clear()
        self._parts.drop()
        self._idle_since = self._names.due = time.monotonic()

    def _take_frames(self):
        try:
            self._handle_input()
        except frames.Malformed as problem:
            self._daemon.say('malformed frame: %s' % problem)
            self._daemon.flush()
            self._drop_daemon()

    def _bury_daemon(self):
        """The connection is at its end: what the daemon had sent is still carried out, and its answers go to the log only."""
        self._daemon.close()
        try:
            while self._has_whole_frame():
                self._handle_input()
        except frames.Malformed:
            pass
        self._drop_daemon()

    def _read_daemon(self):
        if self._daemon.receive():
            self._take_frames()
        else:
            self._bury_daemon()

    # ---- the daemon: one at a time ----

    def _welcome(self):
        for name in self._functions.names:
            self._daemon.send(frames.name(name))
        for call in self._calls.all():
            if not call.runs:
                continue
            self._daemon.send(frames.live(call.key, call.pid, call.start_time, call.started))
            if self._daemon.has_room():
                continue
            select.select([], [self._daemon.socket], [], 1)
            self._daemon.flush()
            if not self._daemon.has_room():  # it does not read: it is no daemon
                self._drop_daemon()
                return
        self._daemon.send(frames.welcome(os.getpid()))

    def _accept(self):
        try:
            accepted, _ = self._names.listener.accept()
        except BlockingIOError:
            return
        except OSError:
            time.sleep(RETRY_SECONDS)  # EMFILE, ENOMEM: it must pass, and whoever connects stays in the queue
            return
        if not self._daemon.open(accepted):
            return
        self._names.due = None
        if self._functions.are_outdated() and self._calls.running == 0:
            self._drop_daemon()  # it comes again, and starts another in this one's place
            self._quit()
            return
        self._welcome()
        if self._functions.are_outdated():
            self._daemon.say('Ganeti was upgraded, but calls of the old one still run: new ones run with the old one too, until noded starts when there are none')

    # ---- the loop ----

    def _next_timeout(self):
        """Milliseconds; None is for ever."""
        if self._daemon.has_room() and (self._reaper.is_behind or (self._daemon.is_open and self._has_whole_frame())):
            return 0
        due = [at for at in (self._leftovers.due, self._reaper.due, self._names.due) if at is not None]
        if not self._daemon.is_open and self._calls.running == 0:
            due.append(self._idle_since + IDLE_SECONDS)
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1) if due else None

    def _is_done(self):
        if self._calls.running > 0 or not self._leftovers.is_done:
            return False
        return self._quitting or (not self._daemon.is_open and time.monotonic() - self._idle_since >= IDLE_SECONDS)

    def _wait(self):
        """Events by descriptor. A daemon that does not read gets no more to read: then nothing is reaped and nothing is taken."""
        poll = select.poll()
        if self._daemon.has_room():
            poll.register(self._wake, select.POLLIN)
        if not self._daemon.is_open:
            poll.register(self._names.listener, select.POLLIN)
        else:
            poll.register(self._daemon.socket, (select.POLLIN if self._daemon.has_room() else 0) | (select.POLLOUT if self._daemon.has_frames else 0))
        try:
            return dict(poll.poll(self._next_timeout()))
        except OSError:
            time.sleep(RETRY_SECONDS)
            return {}

    def _turn(self):
        ready = self._wait()
        if self._wake in ready:
            os.read(self._wake, 4096)
        if self._wake in ready or self._reaper.is_behind or (self._reaper.due is not None and time.monotonic() >= self._reaper.due):
            self._reaper.reap()
        if self._daemon.is_open and self._daemon.incoming:
            self._take_frames()
        if self._daemon.is_open and ready.get(self._daemon.socket.fileno(), 0) & ~select.POLLOUT:
            self._read_daemon()
        if not self._daemon.is_open and self._names.listener.fileno() in ready:
            self._accept()
        if self._names.due is not None and time.monotonic() >= self._names.due:
            self._names.see_to()
            self._names.due = None if self._daemon.is_open else time.monotonic() + LOOK_AT_NAMES_SECONDS
        if self._leftovers.due is not None and time.monotonic() >= self._leftovers.due:
            self._leftovers.sweep()
        if self._daemon.is_open and self._daemon.has_frames:
            self._daemon.flush()

    def run(self):
        while not self._is_done():
            try:
                self._turn()
            except Exception:  # pylint: disable=broad-except
                # A bug, or no memory: the calls must not pay for it.
                self._daemon.say('an error of its own: %s' % traceback.format_exc(limit=-2))
                self._reaper.look_within(RETRY_SECONDS)  # it may have been in the middle of reaping
                time.sleep(RETRY_SECONDS)
