"""The files of calls in the run directory: <key>.args, .out, .err, and the journal <key>.call (DESIGN.md section 5)."""
import errno
import os
import signal
import time
from typing import NamedTuple

from . import frames
from .files import write_all


class Moment(NamedTuple):
    """An instant in ms: by the wall clock for display, and since boot, which nobody sets and ages and order go by."""

    wall_ms: int
    boot_ms: int


def moment_now():
    return Moment(time.time_ns() // 1000000, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000000)


def signal_name(number):
    """As Node names them; those of real time have no names there."""
    try:
        return signal.Signals(number).name if number < 32 else 'SIG%d' % number
    except ValueError:
        return 'SIG%d' % number


def _seconds(ms):
    return '%d.%03d' % divmod(ms, 1000)


def _when(at):
    return '"time":%s,"boot_time":%s' % (_seconds(at.wall_ms), _seconds(at.boot_ms))


class Spool:
    def __init__(self, run_dir, boot_id, complain):
        self._run_dir = run_dir
        self._boot_id = boot_id
        self._complain = complain

    def open(self, key, kind, flags):
        return os.open('calls/%s.%s' % (key, kind), flags | os.O_NOFOLLOW, 0o600, dir_fd=self._run_dir)

    def unlink(self, key, kind):
        try:
            os.unlink('calls/%s.%s' % (key, kind), dir_fd=self._run_dir)
        except OSError:
            pass  # it is not there, or stays: neither changes what became of the call

    def trimmed_size(self, key, kind):
        """Bytes that a function has written. An empty file says no more than none, and goes."""
        try:
            size = os.stat('calls/%s.%s' % (key, kind), dir_fd=self._run_dir, follow_symlinks=False).st_size
        except OSError:
            return frames.SIZE_UNKNOWN
        if size == 0:
            self.unlink(key, kind)
        return size

    def make_journal(self, key, accepted):
        """Sees to it that the journal is there and has its first line. Raises if that cannot be."""
        try:
            fd = self.open(key, 'call', os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            self._complete_journal(key, accepted)
            return
        try:
            write_all(fd, accepted)
        except OSError:
            self.unlink(key, 'call')
            raise
        finally:
            os.close(fd)

    def _complete_journal(self, key, accepted):
        """The daemon had to hand out the call's ID before its start came here; or this is a second try."""
        try:
            fd = self.open(key, 'call', os.O_WRONLY | os.O_APPEND)
        except OSError:
            return  # it is there: lines to come open it by its name
        try:
            # The daemon was killed, or had no room, before its line was written, or in the middle of it.
            if os.fstat(fd).st_size < len(accepted):
                write_all(fd, b'\n' + accepted)
        finally:
            os.close(fd)

    def started(self, call):
        self._append(call, '{"event":"started",%s,"pid":%d,"start_time":%d,"boot_id":"%s"}\n' % (_when(call.started), call.pid, call.start_time, self._boot_id))

    def ended(self, call, exit_code, signal_number, at, usage):
        exit_text = 'null' if exit_code is None else '%d' % exit_code
        signal_text = 'null' if signal_number is None else '"%s"' % signal_name(signal_number)
        user_us, system_us, max_rss_kib = usage
        self._append(call, '{"event":"ended",%s,"exit_code":%s,"signal":%s,"user_seconds":%.6f,"system_seconds":%.6f,"max_rss_bytes":%d}\n' % (_when(at), exit_text, signal_text, user_us / 1e6, system_us / 1e6, max_rss_kib * 1024))

    def not_started(self, call, error, stage, at):
        """Without a journal nobody knows of the start any more: the daemon refuses it."""
        stages = ('', 'open', 'spawn', 'exec')
        if stage != frames.STAGE_JOURNAL:
            self._append(call, '{"event":"ended",%s,"errno":"%s","stage":"%s"}\n' % (_when(at), errno.errorcode.get(error, 'EUNKNOWN'), stages[stage]))
        for kind in ('args', 'out', 'err'):
            self.unlink(call.key, kind)

    def _append(self, call, line):
        """Appends a line whole; after one that was cut short it begins a new one. `call.torn` remembers that."""
        content = (b'\n' if call.torn else b'') + line.encode('ascii')
        fd, wrote, why = -1, -1, 'no room for a whole line'
        try:
            fd = self.open(call.key, 'call', os.O_WRONLY | os.O_APPEND)
            wrote = os.write(fd, content)
        except OSError as error:
            why = os.strerror(error.errno)
        if fd != -1:
            os.close(fd)
        if wrote != len(content):
            self._complain('%s: cannot write to the journal: %s' % (call.key, why))
        call.torn = wrote != len(content) and (wrote > 0 or call.torn)
