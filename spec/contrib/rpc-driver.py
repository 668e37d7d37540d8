"""Ganeti's own RPC client, for the specs: takes a command a line, answers with a JSON object a line.

rpc-driver.py GANETI SITE PORT: GANETI is where the package has its Python, SITE a
directory that is treated as one of Python's own (its .pth files count) or empty.

"""

import json
import site
import sys

(_, GANETI, SITE, PORT) = sys.argv
sys.path.insert(0, GANETI)
if SITE:
    site.addsitedir(SITE)

import ganeti.rpc.node as rpc  # noqa: E402
from ganeti import netutils, rpc_defs, serializer, utils  # noqa: E402

netutils.GetDaemonPort = lambda _: int(PORT)


def described(result):
    """What Ganeti's code sees of a result; repr tells 1 from 1.0, and private values from others."""
    return {"data": repr(result.data), "payload": repr(result.payload), "fail_msg": result.fail_msg, "offline": result.offline}


def runner(addresses, monitors):
    """A client with Ganeti's own resolver for given addresses; None is an offline node."""
    resolver = rpc._StaticResolver([rpc._OFFLINE if address is None else address for address in addresses])
    return rpc._RpcClientBase(resolver, rpc._ENCODERS.get, lock_monitor_cb=monitors.append)


def call(procedure, nodes, args=(), timeout=60):
    """One call of any procedure on any nodes, by the way that the generated wrappers take."""
    monitors = []
    definition = (procedure, rpc_defs.MULTI, None, timeout, [("arg", None, None)] * len(args), None, None, "")
    results = runner(nodes.values(), monitors)._Call(definition, list(nodes), args)
    return {
        "results": dict((name, described(result)) for (name, result) in results.items()),
        "pending": [monitor.GetLockInfo([]) for monitor in monitors],
    }


def generated(name, nodes, args=()):
    """A call by a wrapper that Ganeti has generated, with its own timeout and names resolved."""
    results = getattr(rpc.DnsOnlyRunner(), "call_" + name)(nodes, *args)
    return {"results": dict((node, described(result)) for (node, result) in results.items())}


def decode(text):
    """A result as the classic way decodes it."""
    return described(rpc.RpcResult(data=serializer.LoadJson(text)))


def configure(module, **values):
    """Sets numbers of the adapter, so that no spec takes minutes."""
    for (name, value) in values.items():
        setattr(sys.modules["noded_rpc." + module], name, value)
    return {}


def about():
    """Which code makes the calls."""
    return {"module": rpc._RpcProcessor.__call__.__module__}


COMMANDS = {"call": call, "generated": generated, "decode": decode, "configure": configure, "about": about}

if __name__ == "__main__":
    utils.SetupLogging("/dev/null", "rpc-driver", debug=True, stderr_logging=True)
    rpc.Init()
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(COMMANDS[command.pop("do")](**command)), flush=True)
