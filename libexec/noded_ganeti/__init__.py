"""The parts of noded-ganeti, in the order of their layers: frames, spool, streams, world, programs, functions, leftovers, server."""
