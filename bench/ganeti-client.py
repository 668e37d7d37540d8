"""One call by Ganeti's own RPC client: prints the failure that Ganeti's code is told of, an empty line for none.

ganeti-client.py GANETI SITE PORT READ_TIMEOUT SCALE PROCEDURE ARGUMENTS: GANETI is where the
package has its Python, SITE a directory that is treated as one of Python's own (its .pth files
count) or empty, READ_TIMEOUT what stands for the timeout of the procedure's class, SCALE what the
adapter's times are multiplied with, ARGUMENTS a JSON array.

"""

import json
import site
import sys

(_, GANETI, SITE, PORT, READ_TIMEOUT, SCALE, PROCEDURE, ARGUMENTS) = sys.argv
sys.path.insert(0, GANETI)
if SITE:
    site.addsitedir(SITE)

import ganeti.rpc.node as rpc  # noqa: E402
from ganeti import netutils, rpc_defs  # noqa: E402

netutils.GetDaemonPort = lambda _: int(PORT)

if SITE:
    from noded_rpc import conversation
    if not rpc._RpcProcessor.__call__.__module__.startswith("noded_rpc"):
        sys.exit("the adapter has not changed Ganeti's RPC client")
    for name in ("SLICE", "GRACE", "SILENCE_PATIENCE"):
        setattr(conversation, name, getattr(conversation, name) * float(SCALE))

rpc.Init()
args = json.loads(ARGUMENTS)
definition = (PROCEDURE, rpc_defs.MULTI, None, int(READ_TIMEOUT), [("arg", None, None)] * len(args), None, None, "")
client = rpc._RpcClientBase(rpc._StaticResolver(["127.0.0.1"]), rpc._ENCODERS.get)
print(client._Call(definition, ["node1"], args)["node1"].fail_msg or "", flush=True)
