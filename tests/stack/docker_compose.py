"""``docker-compose`` for the tests of the compose file, built as the stack's programs are: run it to build it."""

from otel_train.stack import build
from otel_train.stack.programs import Module, cache

PROGRAM = cache() / "bin" / "docker-compose"
MODULE = Module(
    "github.com/docker/compose/v2", "v2.40.3", "h1:XeYkQu1svDtyfZPv5nTwFryQ25ZJMkIlc4pz9HalMPI=",
    {"docker-compose": "./cmd"}, "2.40.3", 1.5,
)  # fmt: skip

if __name__ == "__main__" and not PROGRAM.is_file():
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    build.build_module(MODULE)
