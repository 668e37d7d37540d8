"""One call of one function on one node: noded-protocol(7), and the classic call where a node does not know it.

What must never happen is that a function runs twice. So each call has a request
ID of its own; a lost answer is asked for by that ID; the call is only started
again when the node has proven that it never was; and the classic call, which has
no such ID, is only made where the node has proven to be an old one.

"""

import collections
import json
import logging
import os
import time

from noded_rpc.exchange import Ask

#: Seconds that one request waits. An answer is due then, whatever the function does.
SLICE = 10
#: Seconds of silence, over the slice, after which an answer counts as missed.
GRACE = 5
#: Seconds since the last answer after which a node that says nothing is called dead; it is asked once more at least.
SILENCE_PATIENCE = 15
#: The same for one that ends or refuses connections, as while noded is being restarted, or refuses calls for now.
RESTART_PATIENCE = 60
#: Seconds between two tries: the first, and the longest.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 2
#: How often a call is started whose answer is lost again and again.
MAX_STARTS = 3
#: Seconds for what is not worth more.
SHORT = 5

#: How an old node refuses C{PUT /StartFunction}, where it can say so at all.
_UNKNOWN_TO_OLD = (400, 404, 405, 501)
#: How Ganeti's own node daemons call themselves: up to 3.1, and from 3.2 on.
_OLD_SERVERS = ("Ganeti ", "BaseHTTP/")
#: How noded refuses what may be asked again later: too many of something, draining, no spawner, no room.
_PASSING = (429, 503)

(_GOOD, _REFUSED, _FOREIGN, _LOST, _UNSENT) = range(5)

#: What a conversation returns. C{failure} is a text or None; C{is_classic} that the request itself has the answer.
Verdict = collections.namedtuple("Verdict", ["result", "failure", "is_classic"])


def _is_noded(answer):
    """Whether a noded has answered, by its own protocol or in the classic way."""
    return "noded-protocol" in answer.headers or answer.headers.get("server") == "noded"


def _is_old(answer):
    """Whether Ganeti's own node daemon has answered. No answer proves nothing: connections end for many reasons."""
    return not _is_noded(answer) and answer.headers.get("server", "").startswith(_OLD_SERVERS)


class _Failure(Exception):
    """The call has failed, with a text for people."""


class _OldNode(Exception):
    """This node has Ganeti's own node daemon, and has started nothing."""


class _Reply(object):
    """What an answer means.

    @ivar kind: an answer of noded, its refusal, the answer of another server,
        a lost one, or none to a request that never left
    @ivar members: of noded's JSON object; a refusal's are those of RFC 9457

    """

    def __init__(self, answer, load_json, needed=()):
        self.answer = answer
        self.members = {}
        if answer.status is None:
            self.kind = _LOST if answer.was_sent else _UNSENT
        elif "noded-protocol" not in answer.headers:
            self.kind = _FOREIGN
        else:
            self._read(load_json, needed)

    def _read(self, load_json, needed):
        try:
            self.members = load_json(self.answer.body)
        except ValueError:
            self.members = None
        is_good = self.answer.status == 200
        if not isinstance(self.members, dict) or not all(name in self.members for name in (needed if is_good else ("code",))):
            self.members = {}
            self.kind = _LOST
        else:
            self.kind = _GOOD if is_good else _REFUSED

    @property
    def code(self):
        """The code of a refusal, or None."""
        return self.members.get("code") if self.kind == _REFUSED else None

    @property
    def may_pass(self):
        """Whether it is worth to ask again: no answer, or a refusal for now."""
        return self.kind in (_LOST, _UNSENT) or (self.kind == _REFUSED and (self.answer.status in _PASSING or self.code == "internal"))

    @property
    def text(self):
        """What is wrong, for people."""
        if self.kind == _REFUSED:
            return "%s: %s" % (self.code, self.members.get("detail"))
        if self.kind == _FOREIGN:
            return self.answer.body or "HTTP status %s" % self.answer.status
        return self.answer.error or "Error: not an answer of noded"


class Conversation(object):
    """One call on one node. L{run} is the generator that an L{Exchange<noded_rpc.exchange.Exchange>} leads."""

    def __init__(self, make_request, load_json, template, procedure, old_nodes):
        """Takes the classic request as a template.

        @param make_request: C{HttpClientRequest}
        @param load_json: C{serializer.LoadJson}, so that results are decoded as ever
        @param template: the classic request: where it goes, with which
            certificates, and in how many seconds the whole call must be over
        @param old_nodes: L{OldNodes<noded_rpc.old_nodes.OldNodes>}

        """
        self._make_request = make_request
        self._load_json = load_json
        self._template = template
        self._config_curl = template.curl_config_fn
        self._procedure = procedure
        self._old_nodes = old_nodes
        self._address = "%s:%s" % (template.host, template.port)
        self._request_id = "ganeti-%d-%s" % (os.getpid(), os.urandom(16).hex())
        self._call_id = None
        self._begin = self._heard = time.monotonic()
        #: Requests without an answer since the last one that had one, and how many of them met nothing but silence.
        self._tries = self._silences = 0

    def run(self):
        """The whole conversation; returns a L{Verdict}."""
        try:
            if self._address in self._old_nodes:
                return (yield from self._classic())
            return (yield from self._sliced())
        except _Failure as err:
            return Verdict(None, str(err), False)

    def _sliced(self):
        try:
            reply = yield from self._start()
        except _OldNode:
            self._old_nodes.add(self._address)
            return (yield from self._classic())
        while not reply.members["finished"]:
            reply = yield from self._wait()
        return (yield from self._conclude(reply))

    def _classic(self):
        """The call as Ganeti makes it. A noded that does not take it says so, and has then started nothing."""
        answer = yield Ask(self._template, fresh=True)
        if not _is_noded(answer):
            return Verdict(None, None, True)
        self._old_nodes.discard(self._address)
        if answer.status not in (404, 405):
            return Verdict(None, None, True)
        return (yield from self._sliced())

    # --- starting ---

    def _start(self):
        """Starts the call, once, however often it takes to hear of it. Raises L{_OldNode} where that is proven."""
        first_sent = None
        starts = 0
        while True:
            sent = time.monotonic()
            reply = yield from self._ask("StartFunction", self._start_members())
            if reply.kind == _GOOD:
                return reply
            if reply.answer.status in _UNKNOWN_TO_OLD and first_sent is None and _is_old(reply.answer):
                raise _OldNode()
            # Whoever is not there is not waited for; a connection that breaks shows that somebody was.
            if not reply.may_pass or (reply.kind == _UNSENT and self._tries == 0 and not reply.answer.is_broken):
                raise _Failure(reply.text)
            if reply.kind == _UNSENT or (reply.kind == _REFUSED and reply.code != "internal"):
                yield from self._pause(reply)
                continue
            first_sent = sent if first_sent is None else first_sent
            starts += 1
            found = yield from self._recover(reply, first_sent)
            if found is not None:
                return found
            if starts == MAX_STARTS or self._left() <= 0:
                raise _Failure("%s; so the start of %s was lost %d times" % (reply.text, self._who(), starts))

    def _recover(self, reply, first_sent):
        """After a lost answer: gives the call's answer, or None if the call was never started."""
        may_be_old = reply.answer.is_empty
        # No warning: an old node begins like this, too.
        logging.info("%s: no answer to the start of %s (%s), asking for it", self._address, self._who(), reply.text)
        while True:
            yield from self._pause(reply)
            reply = yield from self._ask("WaitForFunction", {"request_id": self._request_id, "timeout": self._slice()})
            if reply.kind == _GOOD:
                return reply
            if reply.code == "unknown_request":
                yield from self._check_never_started(first_sent)
                return None
            may_be_old = may_be_old and (reply.kind == _FOREIGN or reply.answer.is_empty)
            if may_be_old:
                yield from self._look_whether_old()
            if not reply.may_pass:
                raise _Failure("%s; before that, the answer to the start of %s was lost" % (reply.text, self._who()))

    def _look_whether_old(self):
        """Raises L{_OldNode} if it is proven by the answer to the one question that both kinds answer."""
        answer = yield Ask(self._request("POST", "version", b"[]\n", SHORT), timeout=SHORT)
        if answer.status == 200 and _is_old(answer):
            raise _OldNode()

    def _check_never_started(self, first_sent):
        """An unknown request proves it, unless what the node knew has gone with a restart since."""
        reply = yield from self._ask("status", None, needed=("uptime",))
        if reply.kind != _GOOD or reply.members["uptime"] < time.monotonic() - first_sent:
            raise _Failure("the answer to the start of %s was lost, and nothing proves that it never ran" % self._who())

    # --- waiting ---

    def _wait(self):
        """Waits for one slice, and longer if the answer is lost."""
        while True:
            if self._left() <= 0:
                raise _Failure("no result after %.0f seconds; %s still runs on the node" % (time.monotonic() - self._begin, self._who()))
            reply = yield from self._ask("WaitForFunction", {"fnc_id": self._call_id, "timeout": self._slice()})
            if reply.kind == _GOOD:
                return reply
            if not reply.may_pass:
                raise _Failure("%s; it was asked for %s" % (reply.text, self._who()))
            yield from self._pause(reply)

    def _conclude(self, reply):
        """The result of a call that ended well, else why there is none."""
        call = reply.members["call"]
        if call["outcome"] == "ok":
            yield from self._forget(reply)
            return Verdict(reply.members["result"], None, False)
        said = ((call.get("stderr") or {}).get("text") or "").strip()[-500:]
        why = (reply.members["error"] or {}).get("message")
        raise _Failure("%s (%s, %s)%s" % (why, call["outcome"], self._who(), "; it said: %s" % said if said else ""))

    def _forget(self, reply):
        """Saves the node the files of this call, where that costs no new connection. They expire anyway."""
        if reply.answer.headers.get("connection", "").lower() != "close":
            yield from self._ask("ForgetFunction", {"fnc_id": self._call_id}, due=SHORT)

    # --- asking ---

    def _ask(self, operation, members, due=None, needed=("finished", "call")):
        """Asks noded, and gives the L{_Reply}; None for C{members} is a GET."""
        (method, body) = ("GET", b"") if members is None else ("PUT", members if isinstance(members, bytes) else json.dumps(members).encode())
        due = self._slice() + GRACE if due is None else due
        ask = Ask(self._request(method, operation, body, due), timeout=max(self._left(), 0) + due, silence=due)
        reply = _Reply((yield ask), self._load_json, needed)
        if reply.kind == _GOOD and "call" in needed:
            self._call_id = reply.members["call"]["id"]
            self._heard = time.monotonic()
            self._tries = self._silences = 0
        return reply

    def _request(self, method, path, body, timeout):
        template = self._template
        return self._make_request(template.host, template.port, method, "/" + path, headers=template.headers, post_data=body,
                                  read_timeout=timeout, nicename=template.nicename, curl_config_fn=self._config_curl)

    def _start_members(self):
        """The arguments go as they are: a second serializer might write them otherwise."""
        args = self._template.post_data
        rest = json.dumps({"fn_name": self._procedure, "request_id": self._request_id, "timeout": self._slice()})
        return b"".join([rest[:-1].encode(), b', "fn_args": ', args if isinstance(args, bytes) else args.encode(), b"}"])

    def _pause(self, reply):
        """Before the next try; raises L{_Failure} if there should be none."""
        silent_for = time.monotonic() - self._heard
        is_silence = reply.answer.is_silence
        (tries, patience) = (self._silences, SILENCE_PATIENCE) if is_silence else (self._tries, RESTART_PATIENCE)
        if self._left() <= 0 or (tries > 0 and silent_for >= patience):
            if reply.kind == _REFUSED:
                raise _Failure("%s; and so for %.0f seconds, when it was asked for %s" % (reply.text, silent_for, self._who()))
            raise _Failure("%s; no answer of the node for %.0f seconds, where %s may still run" % (reply.text, silent_for, self._who()))
        logging.debug("%s: %s, while asked for %s", self._address, reply.text, self._who())
        pause = min(FIRST_PAUSE * 2 ** (self._tries - 1), LONGEST_PAUSE) if self._tries > 0 else 0
        self._tries += 1
        self._silences += is_silence
        yield max(pause, min(reply.members.get("retry_after") or 0, SHORT))

    def _left(self):
        return self._begin + self._template.read_timeout - time.monotonic()

    def _slice(self):
        """How long the next request waits. After a missed answer not at all: then the question is whether the node lives."""
        return 0 if self._tries > 0 else round(max(0, min(SLICE, self._left())), 3)

    def _who(self):
        if self._call_id is None:
            return "%s with request ID %s" % (self._procedure, self._request_id)
        return "call %s of %s" % (self._call_id, self._procedure)
