"""Frames between noded and this fork server: all that is known of their bytes is here, and in lib/proc/fork-frames.ts."""
import re
import struct

VERSION = 4
_HAS_BOOT = 2
KEY = 16
MAX_FRAME = 128 * 1024
MAX_ENV = 32
SIZE_UNKNOWN = 2**64 - 1  # of a file that has gone: that must not pass for nothing

LEAVE_RUNNING, USER, NICE, UNSPOOLED, INLINE, PARTS, LAST_TRY = 1, 2, 4, 8, 16, 32, 64
STAGE_NONE, STAGE_OPEN, STAGE_SPAWN, STAGE_EXEC, STAGE_JOURNAL = range(5)
KIND_EXITED, KIND_SIGNALED, KIND_NOT_STARTED = range(3)
TERMINATE, KILL = 1, 2

_key = re.compile(rb'[0-9a-f]{16}')
_size = struct.Struct('<I')
_short_size = struct.Struct('<H')
_start = struct.Struct('<16sBIIiQ')
_signal = struct.Struct('<16sB')
_running = struct.Struct('<16sIQQQ')  # key, pid, start time, moment
_ended = struct.Struct('<16sBiBQQQQQQBQ')  # key, kind, code, stage, wall clock, usage, sizes, what is there, boot clock
_welcome = struct.Struct('<II')


class Malformed(Exception):
    """A frame that ends its connection."""


class Start:
    """A start as it was asked for. `accepted` is the first line of the call, with its checksum; empty if it is in the log, or is not to be."""

    __slots__ = ('key', 'flags', 'uid', 'gid', 'nice', 'fsize', 'program', 'env', 'args', 'accepted')

    def has(self, flag):
        return self.flags & flag != 0


def _checked(key):
    if _key.fullmatch(key) is None:
        raise Malformed('no key')  # it becomes a file's name
    return key.decode('ascii')


def _take_string(body, at):
    end = body.find(b'\0', at)
    if end == -1:
        raise Malformed('a string without an end')
    return body[at:end], end + 1


def _take_sized(body, at, size):
    begin = at + size.size
    end = begin + size.unpack_from(body, at)[0] if len(body) >= begin else -1
    if not begin <= end <= len(body):
        raise Malformed('a start cut short')
    return body[begin:end], end


def _read_start(body):
    start = Start()
    if len(body) < _start.size:
        raise Malformed('a start cut short')
    key, start.flags, start.uid, start.gid, start.nice, start.fsize = _start.unpack_from(body)
    start.key = _checked(key)
    start.program, at = _take_string(body, _start.size)
    if not start.program.startswith((b'/', b'ganeti:')):
        raise Malformed('a program without a path')
    if at == len(body) or body[at] > MAX_ENV:
        raise Malformed('an environment that is too large, or missing')
    count, at = body[at], at + 1
    start.env = []
    for _ in range(count):
        variable, at = _take_string(body, at)
        if variable.find(b'=') < 1:
            raise Malformed('a variable without a name')
        start.env.append(variable)
    start.args, at = _take_sized(body, at, _size)
    start.accepted, at = _take_sized(body, at, _short_size)
    if at != len(body):
        raise Malformed('more than a start')
    return start


def _read_signal(body):
    if len(body) != _signal.size:
        raise Malformed('a signal of another size')
    key, what = _signal.unpack(body)
    if what not in (TERMINATE, KILL):
        raise Malformed('an unknown signal')
    return _checked(key), what


def _read_part(body):
    return _checked(body[:KEY]), body[KEY:]


def _read_quit(body):
    if body:
        raise Malformed('more than quit')


def _read_segment(body):
    if len(body) != _size.size:
        raise Malformed('a segment of another size')
    return _size.unpack(body)[0]


_readers = {ord('S'): _read_start, ord('P'): _read_part, ord('K'): _read_signal, ord('G'): _read_segment, ord('Q'): _read_quit}


def whole_frame(buffer, at):
    """Bytes of the whole frame at `at`, its length field with it; 0 if more must come."""
    if len(buffer) - at < 4:
        return 0
    size = _size.unpack_from(buffer, at)[0]
    if not 0 < size <= MAX_FRAME:
        raise Malformed('a frame of %d bytes' % size)
    return size + 4 if len(buffer) - at >= size + 4 else 0


def read_frame(buffer, at, size):
    """Type and content of a whole frame."""
    kind = buffer[at + 4]
    reader = _readers.get(kind)
    if reader is None:
        raise Malformed('an unknown type')
    return chr(kind), reader(bytes(buffer[at + 5:at + size]))


def _frame(kind, body):
    return _size.pack(1 + len(body)) + kind + body


def name(function):
    return _frame(b'N', function.encode('ascii'))


def welcome(pid):
    return _frame(b'W', _welcome.pack(VERSION, pid))


def live(key, pid, start_time, at):
    return _frame(b'L', _running.pack(key.encode('ascii'), pid, start_time, *at))


def started(key, pid, start_time, at):
    return _frame(b'A', _running.pack(key.encode('ascii'), pid, start_time, *at))


def output(key, stream, content):
    return _frame(b'O', key.encode('ascii') + bytes([stream]) + content)


def ended(key, kind, code, stage, at, usage=(0, 0, 0), sizes=(0, 0)):
    """
    `usage` is user and system time in microseconds and the peak of memory in KiB; `sizes` are those of stdout and
    stderr, which are always in files here.
    """
    return _frame(b'E', _ended.pack(key.encode('ascii'), kind, code, stage, at.wall_ms, *usage, *sizes, _HAS_BOOT, at.boot_ms))


def segment(number):
    return _frame(b'G', _size.pack(number))


def busy(key):
    return _frame(b'B', key.encode('ascii'))


def message(text):
    return _frame(b'M', text.encode('utf-8', 'backslashreplace')[:512])
