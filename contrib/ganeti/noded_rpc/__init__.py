"""Ganeti's RPC client, taught to call a noded in slices.

Every start of Python imports this package, because the C{.pth} file beside it
does: so there is nothing in here. L{noded_rpc.hook} is all that a program
that is not Ganeti ever loads.

"""
