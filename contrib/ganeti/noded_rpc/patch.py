"""What is changed of C{ganeti.rpc.node}: how a prepared call is made, and nothing before or after that."""

import logging
import os

#: What the replacement stands on: (where, name, names of its parameters). Another Ganeti may have changed it.
_FOUNDATION = (
    ("node", "_RpcProcessor.__call__", ("self", "nodes", "procedure", "body", "read_timeout", "resolver_opts", "_req_process_fn")),
    ("node", "_RpcProcessor._PrepareRequests", ("hosts", "port", "procedure", "body", "read_timeout")),
    ("node", "_RpcProcessor._CombineResults", ("results", "requests", "procedure")),
    ("node", "RpcResult.__init__", ("self", "data", "failed", "offline", "call", "node")),
    ("client", "HttpClientRequest.__init__", ("self", "host", "port", "method", "path", "headers", "post_data", "read_timeout",
                                              "curl_config_fn", "nicename", "completion_cb")),
    ("client", "_StartRequest", ("curl", "req")),
    ("client", "_PendingRequest.Done", ("self", "errmsg")),
    ("client", "_PendingRequestMonitor.__init__", ("self", "owner", "pending_fn")),
    ("client", "_NoOpRequestMonitor.acquire", ()),
)


def install(node):
    """Replaces the call itself in the module C{ganeti.rpc.node}; raises if that does not look as expected."""
    client = node.http.client
    _check({"node": node, "client": client})
    from noded_rpc.conversation import Conversation
    from noded_rpc.exchange import Exchange
    from noded_rpc.old_nodes import OldNodes

    classic = node._RpcProcessor.__call__
    old_nodes = OldNodes(os.path.join(node.pathutils.RUN_DIR, "noded-rpc"))

    def call(self, nodes, procedure, body, read_timeout, resolver_opts, _req_process_fn=None):
        """Makes an RPC request to a number of nodes: as the classic one, but in slices where a node has noded."""
        if _req_process_fn is not None or read_timeout is None:
            return classic(self, nodes, procedure, body, read_timeout, resolver_opts, _req_process_fn=_req_process_fn)
        hosts = self._resolver(nodes, resolver_opts)
        (results, requests) = self._PrepareRequests(hosts, self._port, procedure, body, read_timeout)
        conversations = dict(
            (name, Conversation(client.HttpClientRequest, node.serializer.LoadJson, request, procedure, old_nodes).run())
            for (name, request) in requests.items())
        verdicts = Exchange(client, lock_monitor_cb=self._lock_monitor_cb).run(conversations)
        for (name, verdict) in verdicts.items():
            if verdict.failure is not None:
                (requests[name].success, requests[name].error) = (False, verdict.failure)
            elif not verdict.is_classic:
                del requests[name]
                results[name] = node.RpcResult(data=verdict.result, node=name, call=procedure)
        return self._CombineResults(results, requests, procedure)

    node._RpcProcessor.__call__ = call
    logging.getLogger("noded_rpc").debug("Ganeti's RPC client calls in slices now")


def _check(modules):
    for (where, path, expected) in _FOUNDATION:
        found = modules[where]
        for name in path.split("."):
            found = getattr(found, name, None)
        code = getattr(found, "__code__", None)
        if code is None or code.co_varnames[:code.co_argcount] != expected:
            raise RuntimeError("%s of ganeti's %s is not what it was in Ganeti 3.0" % (path, where))
