"""Write the lock file anew: `python -m demo.kafka_lock`, to be run by whoever moves the project to another Kafka.

Nothing else runs this. It trusts what it downloads; what it writes is then reviewed and committed.
"""

import hashlib
import tempfile
from pathlib import Path

from demo.kafka_jars import LOCK_FILE

_KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
# Routes Kafka's log calls (slf4j 1.7) to log4j; Kafka leaves that choice to whoever runs it.
_ROUTING = "org.apache.logging.log4j:log4j-slf4j-impl"
_HEAD = "# Every jar that a broker needs, in class path order. Written by `python -m demo.kafka_lock`.\n"


def write_lock() -> None:
    """Resolve Kafka's dependencies, fetch each jar and write down its size and checksum."""
    import jgo
    from jgo.maven import MavenContext

    coordinates = [f"{jar.groupId}:{jar.artifactId}:{jar.version}" for jar in jgo.resolve(_KAFKA)]
    log4j = next(name for name in coordinates if ":log4j-core:" in name).rpartition(":")[2]
    # Resolved apart: together, log4j's own list of versions would push Kafka's clients to an older one.
    coordinates.append(f"{_ROUTING}:{log4j}")
    blocks = []
    with tempfile.TemporaryDirectory() as folder:
        repository = MavenContext(repo_cache=Path(folder))
        for coordinate in coordinates:
            group, artifact, version = coordinate.split(":")
            data = repository.project(group, artifact).at_version(version).artifact().resolve().read_bytes()
            blocks.append(
                f'\n[[jar]]\ncoordinate = "{coordinate}"\nbytes = {len(data)}\n'
                f'sha256 = "{hashlib.sha256(data).hexdigest()}"\n'
            )
    LOCK_FILE.write_text(_HEAD + "".join(blocks))


if __name__ == "__main__":
    write_lock()
