"""The connection to the one daemon: bytes in and out, as far as there is room for them."""
import errno
import os
import signal
import socket
import struct

from . import frames

IN_SIZE = 2 * frames.MAX_FRAME
OUT_SIZE = 4 * frames.MAX_FRAME
OUT_RESERVE = 2 * frames.MAX_FRAME  # room that one event may need at most
_peer = struct.Struct('iII')


class Connection:
    """Closed to begin with. Without a daemon there is room for everything, and nobody to read it."""

    def __init__(self):
        self.socket = None
        self.incoming, self._outgoing = bytearray(), bytearray()
        self._pid = 0
        self._stop_when_sent = False

    @property
    def is_open(self):
        return self.socket is not None

    @property
    def has_frames(self):
        """Whether something waits to be sent."""
        return bool(self._outgoing)

    def open(self, accepted):
        """False for a peer that may not be a daemon of this fork server."""
        accepted.setblocking(False)
        self._pid, uid, _ = _peer.unpack(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _peer.size))
        if uid not in (0, os.getuid()):
            accepted.close()
            return False
        self.socket = accepted
        return True

    def close(self):
        """What came in stays, to be carried out; what was to go out stands in the journals."""
        if self.socket is not None:
            self.socket.close()
        self.socket = None
        self._outgoing.clear()
        self._stop_when_sent = False

    def has_room(self):
        return self.socket is None or len(self._outgoing) + OUT_RESERVE <= OUT_SIZE

    def send(self, frame):
        """False if nobody is there to read it."""
        if self.socket is None or len(self._outgoing) + len(frame) > OUT_SIZE:
            return False
        self._outgoing += frame
        return True

    def say(self, text):
        return self.send(frames.message(text))

    def flush(self):
        """Writes what the daemon takes. An error is left for the next read: what the daemon sent before it died still counts."""
        try:
            while self._outgoing:
                del self._outgoing[:self.socket.send(self._outgoing, socket.MSG_NOSIGNAL)]
        except (BrokenPipeError, ConnectionResetError):
            self._outgoing.clear()  # nobody will read it; it is in the journals
        except OSError:
            pass  # it is full; or ENOBUFS, which must pass
        if not self._outgoing and self._stop_when_sent:
            self._stop_when_sent = False
            self._stop()

    def stop_when_sent(self):
        """The daemon is to end once it has all that it was told."""
        self._stop_when_sent = self.socket is not None

    def _stop(self):
        try:
            os.kill(self._pid, signal.SIGTERM)
        except OSError:
            pass  # it has gone meanwhile, and its connection is about to

    def receive(self):
        """False at the end of the connection; else what came is in `incoming`."""
        if len(self.incoming) >= IN_SIZE or not self.has_room():
            return True
        try:
            got = self.socket.recv(IN_SIZE - len(self.incoming))
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            return error.errno == errno.ENOMEM
        self.incoming += got
        return bool(got)
