"""Changes C{ganeti.rpc.node} when it is imported, and nothing else.

A C{.pth} file imports this at every start of Python. It costs one small module
and one comparison of strings per import; what does the work is loaded only by
programs that import Ganeti's RPC client.

"""

import sys

_TARGET = "ganeti.rpc.node"


class _Loader(object):
    """Loads the module as its own loader does, then patches it."""

    def __init__(self, loader):
        self._loader = loader

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        """Leaves the creation to the module's own loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module):
        """Runs the module, then patches it; Ganeti works whatever comes of that."""
        self._loader.exec_module(module)
        try:
            from noded_rpc import patch
            patch.install(module)
        except Exception as err:
            # A logger's own method: logging.warning() would set up handlers before Ganeti does.
            import logging
            logging.getLogger("noded_rpc").warning("Ganeti's RPC client was left as it is: %s", err)


class _Finder(object):
    """A finder that knows one module, and asks the others where it is."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Gives the target's spec with a loader that patches, and None for all other modules."""
        if name != _TARGET:
            return None
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            if finder is _Finder or find_spec is None:
                continue
            spec = find_spec(name, path, target)
            if spec is not None and hasattr(spec.loader, "exec_module"):
                spec.loader = _Loader(spec.loader)
                return spec
        return None


if _Finder not in sys.meta_path:
    sys.meta_path.insert(0, _Finder)
