"""The engine that a command line names."""

from cislens.engines import Engine, LocalEngine
from cislens.errors import CislensError, nearest
from cislens.extras import extra

ENGINES = ("local", "ray")


def engine_of(name: str, workers: int) -> Engine:
    """The engine of this name with so many workers.

    Raises:
        CislensError: for another name, or without Ray.
    """
    if name == "local":
        return LocalEngine(workers)
    if name == "ray":
        extra("ray", "scale")
        from cislens.scale.ray_engine import RayEngine

        return RayEngine(workers)
    raise CislensError(f"there is no engine {name!r}. {nearest(name, ENGINES)}")
