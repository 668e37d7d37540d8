"""Which nodes have Ganeti's own node daemon, as far as is known.

Only old nodes are remembered: a cluster that has noded everywhere pays one
failed stat(2) per call and node. What one process has learned, others use: jobs
are processes of their own, mostly with a few calls each. So each old node is an
empty file; its name is the node's address, its mtime the time of the proof.

"""

import logging
import os
import time

#: Seconds after which a proof is too old: an upgraded node is tried anew by then.
KEEP = 600


class OldNodes(object):
    """The old nodes. Files that cannot be had are made up for by memory."""

    def __init__(self, run_dir):
        """Takes the directory that is shared with other processes; its parent must exist."""
        self._run_dir = run_dir
        self._own = {}

    def __contains__(self, address):
        """Whether this node was old when it was last looked at."""
        return self._is_fresh(self._own.get(address)) or self._is_fresh(self._proven_at(address))

    def add(self, address):
        """Remembers that this node was proven to be old just now."""
        logging.info("%s has no noded: it is called in the classic way for %d seconds", address, KEEP)
        try:
            self._make_run_dir()
            # Root must not follow what a less trusted user of the directory may have put there.
            proof = os.open(self._path(address), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            try:
                os.utime(proof)
            finally:
                os.close(proof)
        except OSError as err:
            logging.debug("Cannot tell other processes that %s is old: %s", address, err)
            self._own[address] = time.time()

    def discard(self, address):
        """Forgets it: this node has a noded now."""
        self._own.pop(address, None)
        try:
            os.unlink(self._path(address))
        except OSError:
            pass  # there was none, or another user's, which expires

    @staticmethod
    def _is_fresh(proven_at):
        # A proof from the future is none: the clock was set back, and nobody knows how far.
        return proven_at is not None and 0 <= time.time() - proven_at < KEEP

    def _path(self, address):
        return os.path.join(self._run_dir, address.replace(os.sep, "_"))

    def _proven_at(self, address):
        try:
            return os.stat(self._path(address)).st_mtime
        except OSError:
            return None

    def _make_run_dir(self):
        """Makes the directory as accessible as its parent, for root and for Ganeti's own users."""
        if os.path.isdir(self._run_dir):
            return
        parent = os.stat(os.path.dirname(self._run_dir))
        os.mkdir(self._run_dir)
        try:
            os.chown(self._run_dir, -1, parent.st_gid)
            os.chmod(self._run_dir, parent.st_mode & 0o775)
        except OSError as err:
            logging.debug("%s stays with its maker: %s", self._run_dir, err)
