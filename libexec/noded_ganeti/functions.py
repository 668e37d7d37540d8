"""Functions of Ganeti's own backend, called in a forked child.

Loaded once, in the fork server, from where the distribution has put Ganeti; a child has everything that it needs in
memory, so that a power cycle works although the root disk is dead. What Ganeti's own node daemon prepares before it
forks is prepared here too, except for two things: the lock of the job queue is opened by each child, because a lock
that is opened before the fork excludes nobody; and the log is opened by each child, so that a log that was rotated is
noticed by the next call, and by the next line of a running one, without a signal.
"""
import errno
import fcntl
import gc
import logging
import logging.handlers
import os
import re
import sys

from . import frames, world
from .files import write_all

PREFIX = b'ganeti:'
_SHARE = '/usr/share/ganeti/default'
_LANE = 'jobqueue.lane'
_VARIABLES = (b'GANETI_ROOTDIR', b'GANETI_HOSTNAME')
_EXIT_UNWRITTEN = 70
_MAX_FD = 65536  # of this process: a few for itself, two for each call without files
_name = re.compile(r'[a-z][a-z0-9_-]{0,63}')


class _RotatedLog(logging.handlers.WatchedFileHandler):
    """Ganeti's log. Not open while nothing is written: a child must not find it open, as it closes what it did not open."""

    def __init__(self, like):
        super().__init__(like.baseFilename, delay=True, encoding='utf-8', errors='backslashreplace')
        self.setFormatter(like.formatter)
        self.setLevel(like.level)

    def emit(self, record):
        try:
            super().emit(record)
        except Exception:  # pylint: disable=broad-except
            self.handleError(record)  # to stderr, which goes along with the answer: a full disk must not end a function

    def let_go(self):
        if self.stream is not None:
            self.stream.close()
        self.stream = None


def _version_of(share):
    """Of what was imported, something that an upgrade changes; None while it is not there."""
    path = os.path.join(share, 'ganeti/server/noded.py')
    try:
        return os.path.realpath(path), os.stat(path).st_mtime_ns
    except OSError:
        return None


def _import_ganeti(share):
    """Imports what Ganeti's node daemon imports; only this knows the names of its modules."""
    sys.path.insert(0, os.path.realpath(share))  # a switch to another version must not mix the two
    # pylint: disable=import-error
    from ganeti import backend, constants, errors, pathutils, runtime, serializer, utils
    from ganeti.server import noded
    import _strptime, encodings.charmap, encodings.idna  # noqa: E401,F401  else imported by the first call that needs them, and each child is the first
    return backend, constants, errors, pathutils, runtime, serializer, utils, noded


class Functions:
    """The functions by name: a table made once, and what one of them needs around it."""

    def __init__(self, run_dir):
        self._run_dir = run_dir
        self._usual = None  # the environment that all starts have alike
        self._share = os.environ.get('NODED_GANETI_SHARE', _SHARE)
        self._version = _version_of(self._share)
        before = _open_files()
        self._backend, constants, self._errors, pathutils, runtime, self._serializer, utils, self._noded = _import_ganeti(self._share)
        handler = self._noded.NodeRequestHandler()
        methods = {attribute[len('perspective_'):]: getattr(handler, attribute) for attribute in dir(handler) if attribute.startswith('perspective_')}
        self._table = {name: method for name, method in methods.items() if _name.fullmatch(name)}
        runtime.GetEnts()  # users and groups: looked up once
        self._set_up_log(constants, utils)
        self._queue_lock = self._prepare_queue(lambda: utils.FileLock.Open(pathutils.JOB_QUEUE_LOCK_FILE))
        self._variables = {name: os.environb[name] for name in _VARIABLES if name in os.environb}
        if os.environ.get('NODED_GANETI_MLOCK') == '1':
            utils.Mlockall()
        self._log.let_go()
        self._kept = _open_files() - before - self._syslog_sockets()  # a library's own, which it may not do without

    @property
    def names(self):
        return sorted(self._table)

    def are_outdated(self):
        """Whether Ganeti was upgraded since it was loaded. While its files are being replaced nobody knows."""
        version = _version_of(self._share)
        return version is not None and version != self._version

    def _set_up_log(self, constants, utils):
        self._log_path = constants.DAEMONS_LOGFILES[constants.NODED]
        syslog = os.environ.get('NODED_GANETI_SYSLOG', constants.SYSLOG_USAGE)
        # Always to the file too, which children have for their stdout: so it must be there, and be writable.
        utils.SetupLogging(self._log_path, constants.NODED, debug=os.environ.get('NODED_GANETI_DEBUG') == '1', syslog=constants.SYSLOG_YES if syslog == 'only' else syslog)
        root = logging.getLogger('')
        (own,) = [handler for handler in root.handlers if isinstance(handler, logging.handlers.BaseRotatingHandler)]
        self._log = _RotatedLog(own)
        root.removeHandler(own)
        own.close()
        if syslog != 'only':
            root.addHandler(self._log)

    def _prepare_queue(self, open_lock):
        """Makes the files of the job queue, if they are missing, and gives what opens the lock. A failure breaks the job queue and nothing else."""
        problem = self._noded._PrepareQueueLock()
        if problem is None:
            self._noded.queue_lock.Close()
        elif problem.errno != errno.EAGAIN:  # who holds the lock has made them: a call of an earlier fork server
            logging.critical('Cannot prepare the job queue, and go on without: %s', problem)
            return lambda: None  # then each call tries to prepare it
        self._noded.queue_lock = None
        return open_lock

    @staticmethod
    def _syslog_sockets():
        return {handler.socket.fileno() for handler in _syslog_handlers()}

    def has(self, program):
        return program[len(PREFIX):].decode('utf-8', 'replace') in self._table

    def fork(self, start, streams, origin, notices):
        """The pid of the function process. Whatever happens in it, it never comes back."""
        if self._usual is None:  # what all starts have alike is set once, here
            self._usual = {name: value for name, value in self._environment(start).items() if not name.startswith(b'NODED_')}
            world.set_environment(self._usual)
        world.hold_signals()
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                world.release_signals()
        if pid != 0:
            return pid
        try:
            self._become_function(start, streams, origin, notices)
        except BaseException as error:  # pylint: disable=broad-except
            _say('%s: %s' % (type(error).__name__, error))
        finally:
            os._exit(_EXIT_UNWRITTEN)

    def _become_function(self, start, streams, origin, notices):
        own, name = os.getpid(), start.program[len(PREFIX):]
        os.dup2(streams.err, 2)  # first, so that whatever fails after it can be read
        os.setsid()
        world.name_process(name)
        world.reset_signals(runs_python=True)
        world.release_signals()
        self._log.let_go()
        self._open_stdout()
        args = start.args if start.has(frames.INLINE) else _read_all(streams.args)
        lane = self._open_lane(name)
        _close_all_but(self._kept | {streams.out, notices, lane})
        world.reset_oom_score(origin)
        world.set_limits(start, origin)
        world.become_user(start, origin)
        world.set_environment(self._environment(start))
        if lane != -1:
            self._wait_in(lane)
        world.leave_if_orphaned(origin)
        result, quits = self._call(name.decode('ascii'), args)
        # The grandchild of a power cycle comes back as its parent does: it has no answer to give.
        if os.getpid() != own:
            os._exit(0)
        write_all(streams.out, self._dump(result))
        if quits:
            os.write(notices, start.key.encode('ascii'))
        _flush_streams()
        os._exit(0)

    def _wait_in(self, lane):
        fcntl.flock(lane, fcntl.LOCK_EX)
        try:
            self._noded.queue_lock = self._queue_lock()
        except OSError:
            pass  # the function tries it again, and its answer says that it failed

    def _environment(self, start):
        return {**dict(variable.split(b'=', 1) for variable in start.env), **self._variables}

    def _call(self, name, args):
        """The classic pair, as Ganeti's own node daemon answers, and whether the daemon is to end after it."""
        try:
            return (True, self._table[name](self._serializer.LoadJson(args))), False
        except self._backend.RPCFail as error:
            return (False, str(error)), False
        except self._errors.QuitGanetiException as error:
            logging.info('Shutting down the node daemon, arguments: %s', error.args)
            return error.args, True
        except BaseException as error:  # pylint: disable=broad-except
            logging.exception('Error in RPC call')
            return self._failed(error), False

    def _dump(self, result):
        try:
            return self._serializer.DumpJson(result)
        except Exception as error:  # pylint: disable=broad-except
            logging.exception('Error in the result of an RPC call')
            return self._serializer.DumpJson(self._failed(error))

    @staticmethod
    def _failed(error):
        return False, 'Error while executing backend function: %s' % error

    def _open_stdout(self):
        """What a function prints is no result: it goes to the log, or nowhere if that cannot be had."""
        try:
            fd = os.open(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY, 0o600)
        except OSError:
            return
        os.dup2(fd, 1)
        os.close(fd)

    def _open_lane(self, name):
        """Calls of the job queue run one at a time, and wait for each other here; -1 for others."""
        if not name.startswith(b'jobqueue_'):
            return -1
        return os.open(_LANE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=self._run_dir)


def load(run_dir):
    """Loads Ganeti, and sees to it that children share its memory."""
    functions = Functions(run_dir)
    gc.collect()
    gc.freeze()
    return functions


def _open_files():
    # The directory itself is in its list, and not open any more.
    return {int(name) for name in os.listdir('/proc/self/fd') if os.path.lexists('/proc/self/fd/' + name)}


def _syslog_handlers():
    return [handler for handler in logging.getLogger('').handlers if isinstance(handler, logging.handlers.SysLogHandler)]


def _close_all_but(kept):
    for handler in _syslog_handlers():
        handler.socket.close()  # it opens another when it has something to say
    last = 2
    for fd in sorted(kept - {-1}):
        os.closerange(last + 1, fd)
        last = fd
    os.closerange(last + 1, _MAX_FD)


def _read_all(fd):
    with open(fd, 'rb', closefd=False) as file:
        return file.read()


def _flush_streams():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # the log's disk is full: the result is written, and that counts


def _say(text):
    try:
        os.write(2, ('noded-ganeti: %s\n' % text).encode('utf-8', 'backslashreplace'))
    except OSError:
        pass
