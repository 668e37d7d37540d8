"""What is on file of calls: their lines in the log (doc/formats.md, "The log"), and their files <key>.args, .out and .err."""
import errno
import os
import signal
import time
import zlib
from typing import NamedTuple

from . import frames


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


def _sealed(key, json):
    text = ('%s %s' % (key, json)).encode('ascii')
    return b'%08x %s\n' % (zlib.crc32(text), text)


class Spool:
    def __init__(self, run_dir, boot_id, complain):
        self._run_dir = run_dir
        self._boot_id = boot_id
        self._complain = complain
        self._log = -1

    def use_segment(self, number):
        """Appends go to this segment of the log from now on. Raises if that cannot be: then they go where they went before."""
        log = os.open('log/%010d.log' % number, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW, dir_fd=self._run_dir)
        if self._log != -1:
            os.close(self._log)
        self._log = log

    def open(self, key, kind, flags):
        return os.open('calls/%s.%s' % (key, kind), flags | os.O_NOFOLLOW, 0o600, dir_fd=self._run_dir)

    def unlink(self, key, kind):
        try:
            os.unlink('calls/%s.%s' % (key, kind), dir_fd=self._run_dir)
        except OSError:
            pass  # it is not there, or stays: neither changes what became of the call

    def _size(self, key, kind):
        try:
            return os.stat('calls/%s.%s' % (key, kind), dir_fd=self._run_dir, follow_symlinks=False).st_size
        except OSError:
            return frames.SIZE_UNKNOWN

    def accepted(self, line):
        """The first line of a call, as it came along. Raises if it cannot be on file."""
        self._append(line)

    def started(self, call):
        self._write(call, '{"event":"started",%s,"pid":%d,"start_time":%d,"boot_id":"%s"}' % (_when(call.started), call.pid, call.start_time, self._boot_id))

    def ended(self, call, exit_code, signal_number, at, usage):
        """Bytes that the function has written to stdout and stderr. An empty file says no more than none, and goes."""
        sizes = self._size(call.key, 'out'), self._size(call.key, 'err')
        exit_text = 'null' if exit_code is None else '%d' % exit_code
        signal_text = 'null' if signal_number is None else '"%s"' % signal_name(signal_number)
        user_us, system_us, max_rss_kib = usage
        written = '' if frames.SIZE_UNKNOWN in sizes else ',"stdout_bytes":%d,"stderr_bytes":%d' % sizes
        self._write(call, '{"event":"ended",%s,"exit_code":%s,"signal":%s,"user_seconds":%.6f,"system_seconds":%.6f,"max_rss_bytes":%d%s}' % (_when(at), exit_text, signal_text, user_us / 1e6, system_us / 1e6, max_rss_kib * 1024, written))
        for kind, size in zip(('out', 'err'), sizes):
            if size == 0:
                self.unlink(call.key, kind)
        return sizes

    def not_started(self, call, error, stage, at):
        """Without a journal nobody knows of the start any more: the daemon refuses it."""
        stages = ('', 'open', 'spawn', 'exec')
        if stage != frames.STAGE_JOURNAL:
            self._write(call, '{"event":"ended",%s,"errno":"%s","stage":"%s"}' % (_when(at), errno.errorcode.get(error, 'EUNKNOWN'), stages[stage]))
        for kind in ('args', 'out', 'err'):
            self.unlink(call.key, kind)

    def _write(self, call, json):
        try:
            self._append(_sealed(call.key, json))
        except OSError as error:
            self._complain('%s: cannot write to the log: %s' % (call.key, os.strerror(error.errno)))

    def _append(self, line):
        """Begins with a newline: what somebody else could not finish must cost that line alone."""
        # noded may have lost its run directory: what is written to a file without a name nobody will read.
        if self._log == -1 or os.fstat(self._log).st_nlink == 0:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        content = b'\n' + line
        if os.write(self._log, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
