"""Talks to many nodes at once, over one cURL multi handle.

A conversation with a node is a generator. It yields L{Ask}s and is sent an
L{Answer} to each; or it yields a number of seconds, and is resumed after them.
Nothing is in step: a node that answers early is asked its next question while
others are still silent, so a slow node never delays what another one is owed.

"""

import collections
import errno
import re
import threading
import time

import pycurl

#: TLS handshakes at once: some hundred in one moment make each of them time out.
MAX_HANDSHAKES = 30

#: Seconds that cURL is left to itself at most; its timeouts are only looked at in between.
_LONGEST_SELECT = 1.0

_CURL_ERROR = re.compile(r"Error (\d+):")

_TIMED_OUT = pycurl.E_OPERATION_TIMEOUTED
_NO_ANSWER = (pycurl.E_GOT_NOTHING, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR)


class Ask(object):
    """One HTTP request, as Ganeti's HTTP client knows them, and how it is to be sent.

    @ivar headers: those of the answer, by names in lower case

    """

    def __init__(self, request, timeout=None, silence=None, fresh=False):
        """Takes a C{HttpClientRequest}.

        @param timeout: seconds for all of it, instead of the request's whole ones
        @param silence: seconds without a byte in either direction that end it. A
            large answer over a slow line may take longer than any wait.
        @param fresh: whether it needs a connection of its own. cURL repeats by
            itself what it sent into a kept connection that was just closed.

        """
        self.request = request
        self.timeout = timeout
        self.silence = silence
        self.fresh = fresh
        self.headers = {}
        self._moved = (0, time.monotonic())
        self._configure = request.curl_config_fn
        request.curl_config_fn = self._config_curl

    def patience(self, curl):
        """Seconds after which nothing will have moved for too long; None if that is never."""
        if self.silence is None:
            return None
        now = time.monotonic()
        moved = curl.getinfo(pycurl.SIZE_UPLOAD) + curl.getinfo(pycurl.SIZE_DOWNLOAD)
        if moved != self._moved[0]:
            self._moved = (moved, now)
        return self._moved[1] + self.silence - now

    def _config_curl(self, curl):
        self._configure(curl)
        if self.timeout is not None:
            curl.setopt(pycurl.TIMEOUT_MS, max(1, int(self.timeout * 1000)))
        if self.fresh:
            curl.setopt(pycurl.FRESH_CONNECT, True)
            curl.setopt(pycurl.FORBID_REUSE, True)
        curl.setopt(pycurl.HEADERFUNCTION, self._take_header)
        self._moved = (0, time.monotonic())

    def _take_header(self, line):
        (name, colon, value) = line.decode("latin-1").partition(":")
        if colon:
            self.headers[name.strip().lower()] = value.strip()


class Answer(object):
    """What came of an L{Ask}: an HTTP answer, or none.

    @ivar error: cURL's error as Ganeti spells it, or None
    @ivar status: the HTTP status, None without a whole answer
    @ivar body: the text of a whole answer
    @ivar headers: its headers, by names in lower case
    @ivar was_sent: whether the node may have got the request

    """

    def __init__(self, ask, curl):
        request = ask.request
        self.error = request.error
        self.status = request.resp_status_code if request.success else None
        self.body = request.resp_body if request.success else None
        self.headers = ask.headers
        self.was_sent = curl.getinfo(pycurl.PRETRANSFER_TIME) > 0
        match = _CURL_ERROR.match(self.error or "")
        self._code = int(match.group(1)) if match else None
        self._os_errno = curl.getinfo(pycurl.OS_ERRNO)

    @property
    def is_silence(self):
        """Whether nothing came back: no answer, no refusal, no end of the connection."""
        refused = self._os_errno == errno.ECONNREFUSED
        return self._code == _TIMED_OUT or (self._code == pycurl.E_COULDNT_CONNECT and not refused)

    @property
    def is_broken(self):
        """Whether a connection was there, and broke: in its handshake, or later."""
        broke = self._os_errno in (errno.ECONNRESET, errno.EPIPE)
        return self._code in _NO_ANSWER or (self._code == pycurl.E_SSL_CONNECT_ERROR and broke)

    @property
    def is_empty(self):
        """Whether the connection ended instead of an answer: how Ganeti 3.0 and 3.1 refuse a request."""
        return self._code in _NO_ANSWER


class Exchange(object):
    """Leads conversations to their ends.

    @ivar _pending: the requests under way, by their cURL handles; read by the
        thread of Ganeti's lock monitor, so only changed under the monitor's lock

    """

    def __init__(self, http_client, lock_monitor_cb=None):
        """Takes Ganeti's module C{ganeti.http.client}, and who is told of pending requests."""
        self._http_client = http_client
        self._pending = {}
        self._asks = {}
        self._ready = collections.deque()
        self._unsent = collections.deque()
        self._pauses = []
        self._verdicts = {}
        self._multi = pycurl.CurlMulti()
        if lock_monitor_cb:
            self._monitor = http_client._PendingRequestMonitor(threading.current_thread(), self._pending.values)
            lock_monitor_cb(self._monitor)
        else:
            self._monitor = http_client._NoOpRequestMonitor

    def run(self, conversations):
        """Runs them all, given by name, and gives what each returned, by name."""
        self._ready.extend((name, talk, None) for (name, talk) in conversations.items())
        try:
            while len(self._verdicts) < len(conversations):
                self._step()
            return self._verdicts
        finally:
            self._monitor.Disable()
            for talk in conversations.values():
                talk.close()
            for curl in list(self._pending):
                self._multi.remove_handle(curl)
            self._multi.close()

    def _step(self):
        while self._ready:
            self._resume(*self._ready.popleft())
        self._send()
        self._multi.perform()
        self._collect()
        self._end_silent()
        self._wake()
        if not self._ready and len(self._pending) + len(self._pauses) > 0:
            self._wait()

    def _resume(self, name, talk, answer):
        try:
            wish = talk.send(answer)
        except StopIteration as end:
            self._verdicts[name] = end.value
            return
        if isinstance(wish, Ask):
            self._unsent.append((name, talk, wish))
        else:
            self._pauses.append((time.monotonic() + wish, name, talk))

    def _send(self):
        handshakes = sum(curl.getinfo(pycurl.PRETRANSFER_TIME) == 0 for curl in self._pending)
        while self._unsent and handshakes < MAX_HANDSHAKES:
            (name, talk, ask) = self._unsent.popleft()
            curl = pycurl.Curl()
            pending = self._http_client._StartRequest(curl, ask.request)
            self._locked(self._pending.__setitem__, curl, pending)
            self._asks[curl] = (name, talk, ask)
            self._multi.add_handle(curl)
            handshakes += 1

    def _collect(self):
        more = 1
        while more:
            (more, successful, failed) = self._multi.info_read()
            for curl in successful:
                self._finish(curl, None)
            for (curl, number, message) in failed:
                self._finish(curl, "Error %s: %s" % (number, message))

    def _end_silent(self):
        for (curl, (_, _, ask)) in list(self._asks.items()):
            left = ask.patience(curl)
            if left is not None and left <= 0:
                self._finish(curl, "Error %d: no answer for %.0f seconds" % (_TIMED_OUT, ask.silence))

    def _finish(self, curl, error):
        self._multi.remove_handle(curl)
        pending = self._locked(self._pending.pop, curl)
        (name, talk, ask) = self._asks.pop(curl)
        try:
            pending.Done(error)
        except UnicodeDecodeError as err:
            # Mostly an answer that was cut within a character; Ganeti's client has set all but the body by then.
            ask.request.success = False
            ask.request.error = error or "Error %d: the answer is not UTF-8: %s" % (pycurl.E_RECV_ERROR, err)
            ask.request.resp_body = ""
        self._ready.append((name, talk, Answer(ask, curl)))

    def _locked(self, function, *args):
        self._monitor.acquire(shared=0)
        try:
            return function(*args)
        finally:
            self._monitor.release()

    def _wake(self):
        now = time.monotonic()
        due = [pause for pause in self._pauses if pause[0] <= now]
        if due:
            self._pauses = [pause for pause in self._pauses if pause[0] > now]
            self._ready.extend((name, talk, None) for (_, name, talk) in due)

    def _wait(self):
        now = time.monotonic()
        dues = [until - now for (until, _, _) in self._pauses]
        dues.extend(left for left in (ask.patience(curl) for (curl, (_, _, ask)) in self._asks.items()) if left is not None)
        seconds = max(0, min([_LONGEST_SELECT] + dues))
        curl_wants = self._multi.timeout() if self._pending else -1
        if curl_wants >= 0:
            seconds = min(seconds, curl_wants / 1000.0)
        # select returns at once where cURL has no socket yet, as while a name is looked up.
        if seconds > 0 and (not self._pending or self._multi.select(seconds) <= 0):
            left = now + seconds - time.monotonic()
            time.sleep(max(0, left if not self._pending else min(left, 0.01)))
