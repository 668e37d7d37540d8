"""What a function process gets for its arguments, its stdout and its stderr: files of the spool, or memory."""
import errno
import os

from . import frames
from .files import write_all

MAX_PARTS = 256 * 1024 * 1024  # arguments that come in parts; far over any max_request


class Parts:
    """Arguments that come in parts, before their start. An error waits for that start, which reports it."""

    def __init__(self):
        self._key = None
        self._fd = -1
        self._size = 0
        self._error = 0

    def add(self, key, content):
        """False for more than a daemon may send."""
        if key != self._key:
            self.drop()
            self._key, self._size, self._error = key, 0, 0
            self._attempt(lambda: self._hold(os.memfd_create('args')))
        self._size += len(content)
        if self._error == 0:
            self._attempt(lambda: write_all(self._fd, content))
        return self._size <= MAX_PARTS

    def _hold(self, fd):
        self._fd = fd

    def _attempt(self, step):
        try:
            step()
        except OSError as error:
            self._error = error.errno

    def take(self, key):
        """The file in memory, at its beginning."""
        if key != self._key or self._fd == -1 or self._error != 0:
            raise OSError(self._error if key == self._key and self._error != 0 else errno.EINVAL, 'the arguments did not come')
        fd, self._fd = self._fd, -1
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def drop(self):
        if self._fd != -1:
            os.close(self._fd)
        self._fd, self._key = -1, None


class Streams:
    """Descriptors for one start; -1 where there is none."""

    def __init__(self):
        self.args = self.out = self.err = -1

    def close(self):
        for fd in (self.args, self.out, self.err):
            if fd != -1:
                os.close(fd)
        self.args = self.out = self.err = -1


def _memory_args(content):
    fd = os.memfd_create('args')
    try:
        write_all(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def open_streams(start, spool, parts, needs_file):
    """Opens all three, or raises the error of the first that cannot be had. Without `needs_file` arguments that came along stay where they are."""
    streams = Streams()
    try:
        if start.has(frames.PARTS):
            streams.args = parts.take(start.key)
        elif not start.has(frames.INLINE):
            streams.args = spool.open(start.key, 'args', os.O_RDONLY)
        elif needs_file:
            streams.args = _memory_args(start.args)
        if start.has(frames.UNSPOOLED):
            streams.out, streams.err = os.memfd_create('out'), os.memfd_create('err')
        else:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
            streams.out = spool.open(start.key, 'out', flags)
            streams.err = spool.open(start.key, 'err', flags)
    except OSError:
        streams.close()
        raise
    return streams
