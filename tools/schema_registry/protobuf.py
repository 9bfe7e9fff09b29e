"""Protobuf without generated classes: the schema's text is compiled when it is loaded, by protoc of grpcio-tools.

protoc runs as a process of its own, because it prints, and because the text is somebody else's.
"""

import base64
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import google.type
from confluent_kafka.schema_registry import Schema
from confluent_kafka.schema_registry.confluent import meta_pb2
from confluent_kafka.schema_registry.confluent.types import decimal_pb2
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.schema_registry.serde import SchemaId
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from tools.schema_registry.client import FetchedSchema, UnknownSchema
from tools.schema_registry.protobuf_messages import plain_message

_MAIN_FILE = "nextclick/the-schema.proto"  # a name that no reference has
_COMPILE_S = 30.0
_SHORT = 200  # characters of what protoc says


def protobuf_reader(fetched: FetchedSchema) -> Callable[[bytes], object]:
    """Give the function that reads messages of a schema's file, whichever of its messages it is.

    Blocks some 0.2 s for the compiler.

    Raises:
        UnknownSchema: protoc does not accept the schema.
    """
    file, pool = compile_schema(fetched)
    deserializers: dict[tuple[int, ...], ProtobufDeserializer] = {}

    def read(framed: bytes) -> object:
        frame = SchemaId("PROTOBUF")
        frame.from_bytes(io.BytesIO(framed))
        indexes = tuple(frame.message_indexes)
        if indexes not in deserializers:
            deserializers[indexes] = ProtobufDeserializer(message_class(file, pool, indexes))
        return plain_message(deserializers[indexes](framed))

    return read


def message_class(file: FileDescriptorProto, pool: DescriptorPool, indexes: Sequence[int]) -> type[Message]:
    """Find a message by its place in the file, then by its place in that message, and so on.

    Raises:
        IndexError: there is none.
    """
    names, messages = [file.package] if file.package else [], file.message_type
    for index in indexes:
        if index < 0:
            raise IndexError(index)
        names.append(messages[index].name)
        messages = messages[index].nested_type
    found: type[Message] = GetMessageClass(pool.FindMessageTypeByName(".".join(names)))
    return found


def compile_schema(fetched: FetchedSchema) -> tuple[FileDescriptorProto, DescriptorPool]:
    """Let protoc compile a schema and what it refers to.

    Raises:
        UnknownSchema: protoc does not accept it.
    """
    with tempfile.TemporaryDirectory(prefix="nextclick-protobuf-") as name:
        source = _Source(Path(name))
        source.add(_MAIN_FILE, fetched.schema)
        for schema in (fetched.schema, *(found.schema for found in fetched.references.values())):
            for reference in schema.references or ():
                source.add(reference.name, fetched.references[reference.subject, reference.version].schema)
        files = FileDescriptorSet.FromString(_run_protoc(source))
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return files.file[-1], pool  # protoc writes a file behind those that it imports


class _Source:
    """What protoc reads: files in a folder, and others that came compiled, as Confluent's Python producers do it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # What Confluent's producers may import without a reference. Google's own types come as text, with packages.
        self.compiled = FileDescriptorSet()
        for module in (meta_pb2, decimal_pb2):
            module.DESCRIPTOR.CopyToProto(self.compiled.file.add())

    def add(self, name: str, schema: Schema) -> None:
        """Add a file of the registry's under the name by which others import it."""
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise UnknownSchema(f"expected a reference of a Protobuf schema to be a path inside, found {name!r:.60}")
        try:
            file = FileDescriptorProto.FromString(base64.b64decode(schema.schema_str, validate=True))
        except (ValueError, DecodeError):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(schema.schema_str)
        else:
            file.name = name
            self.compiled.file.append(file)


def _run_protoc(source: _Source) -> bytes:
    """Compile the main file; gives a FileDescriptorSet with all that it imports."""
    given, made = source.folder / "given.bin", source.folder / "made.bin"
    given.write_bytes(source.compiled.SerializeToString())
    packages = Path(next(iter(google.type.__path__))).parents[1]
    options = [f"-I{source.folder}", f"-I{packages}", f"--descriptor_set_in={given}", f"--descriptor_set_out={made}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *options, "--include_imports", _MAIN_FILE]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMPILE_S, check=False)
    except subprocess.TimeoutExpired:
        raise UnknownSchema(f"protoc did not compile a Protobuf schema within {_COMPILE_S:.0f} s") from None
    if done.returncode != 0:
        complaint = (done.stderr.decode(errors="replace").splitlines() or ["no reason"])[-1]
        raise UnknownSchema(f"protoc does not accept a Protobuf schema of the registry: {complaint[:_SHORT]}")
    return made.read_bytes()
