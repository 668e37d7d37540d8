"""Functions that are programs: opened, checked and run as noded-forker does it."""
import errno
import os
import stat
import struct

from . import frames, world

_failure = struct.Struct('<BI')


class NotStarted(Exception):
    """A function process that is none: the errno and the stage of it."""

    def __init__(self, error, stage):
        super().__init__(os.strerror(error))
        self.error = error
        self.stage = stage


def _is_unsafe(facts):
    """As noded's scan of the functions directory sees it: it could have been changed by somebody else."""
    if facts.st_uid not in (0, os.getuid()) or facts.st_mode & stat.S_IWOTH:
        return True
    return bool(facts.st_mode & stat.S_IWGRP) and facts.st_gid not in (0, os.getgid())


def open_program(path):
    """The program, opened once and checked on that descriptor. Raises if it must not be run."""
    fd = os.open(path, os.O_PATH)
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_mode & 0o111 == 0:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        if _is_unsafe(facts):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
    except OSError:
        os.close(fd)
        raise
    return fd


def _execute(start, program):
    env = dict(variable.split(b'=', 1) for variable in start.env)
    try:
        os.execve(program, [start.program], env)
    except FileNotFoundError:
        # A script's interpreter opens the script by name, and our descriptor is closed by then. So between check and
        # exec of a script somebody may replace it: but only root or noded's user, because the scan saw to every
        # directory above it.
        os.execve(start.program, [start.program], env)


def _become_program(start, streams, program, origin, failures):
    stage = frames.STAGE_SPAWN
    try:
        os.setsid()
        world.reset_signals(runs_python=False)
        os.umask(0o022)
        os.dup2(streams.args, 0)
        os.dup2(streams.out, 1)
        os.dup2(streams.err, 2)
        world.reset_oom_score(origin)
        world.set_limits(start, origin)
        world.become_user(start, origin)
        world.leave_if_orphaned(origin)
        stage = frames.STAGE_EXEC
        _execute(start, program)
    except OSError as error:
        os.write(failures, _failure.pack(stage, error.errno))
    except ValueError:
        os.write(failures, _failure.pack(stage, errno.EINVAL))


def fork_program(start, streams, program, origin):
    """The pid of the function process, once it runs the program."""
    reading, writing = os.pipe()
    try:
        pid = os.fork()
        if pid == 0:
            try:
                _become_program(start, streams, program, origin, writing)
            finally:
                os._exit(127)
    except OSError as error:
        os.close(reading)
        raise NotStarted(error.errno, frames.STAGE_SPAWN) from error
    finally:
        os.close(writing)
    failure = os.read(reading, _failure.size)
    os.close(reading)
    if len(failure) < _failure.size:
        return pid
    os.waitpid(pid, 0)
    stage, error = _failure.unpack(failure)
    raise NotStarted(error, stage)
