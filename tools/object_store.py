"""Objects below an address: `s3://bucket/folder`, `gs://`, `az://`, or a folder as `file://`. The only file that calls
an object store's client.

An object appears whole by one request, or not at all. Whatever may pass (no answer, a 500, a cut connection) is tried
again with growing pauses, for a while that is bounded, and then said as `StoreAway`: the caller goes on with what it
has. Credentials come from where the client looks for them by itself, and are never in an address.
"""

import contextlib
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from nextclick.errors import PermanentError, TemporaryError

PATIENCE_S = 20.0
_REQUEST_S = 10.0  # for a piece; a slow network (0.5 MB/s) is quick enough for it, and a flaky one repeats no more
_SLOWEST_BYTES_PER_S = 512 * 1024
_PART_BYTES = 5 * 1024 * 1024  # of an upload: S3 takes no smaller ones
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 3.0
# Of a machine in a cloud its service of metadata is asked for credentials, where no variable has them.
_CREDENTIALS = re.compile(
    r"latest/api/token|latest/meta-data|computeMetadata|metadata/identity|credential", re.IGNORECASE
)
_PASSES = re.compile(
    r"status code: (5\d\d|429)|HttpError \{\s*kind: (?!Connect)\w"
)  # such a service is there, and has much to do
_PANIC = "PanicException"  # of the library's Rust; no `Exception`, and nowhere to be imported from
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_QUERY = re.compile(r"\?\S+")  # of an address in a message: can be a signature
_TOOK = re.compile(r" in [\d.]+ ?[mµ]?s\b")  # the same failure again is the same text
_T = TypeVar("_T")


class StoreAway(TemporaryError):
    """The object store does not answer as it should. Later it can."""


class ObjectMissing(PermanentError):
    """There is no object of this name."""


class StoredObject(NamedTuple):
    """What a listing says of an object.

    Attributes:
        n_bytes: its size.
        modified_s: when it was written, in seconds since 1970, by the store's clock.
    """

    n_bytes: int
    modified_s: float


class ObjectStore:
    """The objects below one address. Every call blocks, for `patience_s` and one request at most per piece: what a slow
    network sends within `request_s`.

    Attributes:
        address: as the settings have it; holds no secret.
    """

    def __init__(
        self,
        address: str,
        *,
        patience_s: float = PATIENCE_S,
        request_s: float = _REQUEST_S,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Connect to nothing yet.

        Args:
            address: of the objects.
            patience_s: for how long a request is tried again.
            request_s: for how long an answer is waited for; longer where an object is written that has many pieces.
            is_over: asked before every request, so that its owner knows that this goes on. When it says yes, what fails
                is not tried again.

        Raises:
            PermanentError: the client's library is not installed, or it does not take the address.
        """
        self.address = address
        self._patience_s, self._request_s, self._is_over = patience_s, request_s, is_over
        self._piece_bytes = int(request_s * _SLOWEST_BYTES_PER_S)
        self._has_answered = False
        try:
            import obstore
        except ImportError as error:
            raise PermanentError(
                f"{address} needs a client for object stores, which is not installed; `pip install "
                "'nextclick[object-store]'`"
            ) from error
        self._client: Any = obstore
        try:
            self._store: Any = _opened(address, request_s)
        except Exception as error:  # whatever the library makes of an address, or of variables
            raise PermanentError(f"{address} cannot be used: {_shortened(str(error))}") from error

    def list(self) -> dict[str, StoredObject]:
        """Give all objects by their names.

        Raises:
            StoreAway: the store does not answer.
            PermanentError: it refuses, or there is no such bucket.
        """
        found = self._tried(lambda: self._client.list(self._store).collect())
        return {each["path"]: StoredObject(each["size"], each["last_modified"].timestamp()) for each in found}

    def read(self, name: str) -> bytes:
        """Give an object's content.

        Raises:
            ObjectMissing: there is none.
            StoreAway, PermanentError: as from `list`.
        """
        return self._tried(lambda: self._content(name))

    def download(self, name: str, n_bytes: int, file: BinaryIO) -> None:
        """Write an object's content into a file, piece by piece. Its digest is the caller's to compare.

        Args:
            name: of the object.
            n_bytes: its size.
            file: where to.

        Raises:
            ObjectMissing: there is none.
            StoreAway, PermanentError: as from `list`.
            OSError: the file cannot be written.
        """
        for start, length in self._pieces(n_bytes):
            file.write(self._tried(lambda start=start, length=length: self._piece(name, start, length)))  # type: ignore[misc]

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless there is one: of several writers one wins.

        Returns:
            Whether it has this content now. Also true where the answer to a first try was lost.

        Raises:
            StoreAway, PermanentError: as from `list`. The object may be there all the same.
        """
        return self._tried(lambda: self._created(name, content))

    def write(self, name: str, content: bytes | Path) -> None:
        """Write an object, in the place of one of its name; a path gives the content of its file.

        Raises:
            StoreAway, PermanentError: as from `list`.
            OSError: the file cannot be read.
        """
        # Part by part: those that are on their way at once share the line, and the time of one.
        self._tried(lambda: self._client.put(self._store, name, content, chunk_size=_PART_BYTES, max_concurrency=1))

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects, those of them that are there; by few requests, but not all at once.

        Raises:
            StoreAway, PermanentError: as from `list`. Some may be removed all the same.
        """
        if not names:
            return
        try:
            self._tried(lambda: self._client.delete(self._store, list(names)))
        except ObjectMissing:  # some stores say so, and do not go on
            if len(names) > 1:
                for name in names:
                    self.remove([name])

    def _created(self, name: str, content: bytes) -> bool:
        try:
            self._client.put(self._store_for(len(content)), name, content, mode="create", use_multipart=False)
        except self._client.exceptions.AlreadyExistsError:
            try:
                return self._content(name) == content
            except FileNotFoundError as error:  # somebody has removed it just now: another try finds no object
                raise self._client.exceptions.GenericError(f"{name} was there, and is not any more") from error
        return True

    def _store_for(self, n_bytes: int) -> Any:
        """Give a store that waits long enough for so much to be written at once: no part of it is created alone."""
        n_pieces = math.ceil(n_bytes / self._piece_bytes)
        return self._store if n_pieces <= 1 else _opened(self.address, n_pieces * self._request_s)

    def _content(self, name: str) -> bytes:
        """Give a small object's content, whose size is asked for apart: an answer can be cut and look whole."""
        n_bytes = self._client.head(self._store, name)["size"]
        return b"".join([self._piece(name, start, length) for start, length in self._pieces(n_bytes)])

    def _pieces(self, n_bytes: int) -> Iterator[tuple[int, int]]:
        """Give begin and length of each piece of an object."""
        for start in range(0, n_bytes, self._piece_bytes):
            yield start, min(self._piece_bytes, n_bytes - start)

    def _piece(self, name: str, start: int, length: int) -> bytes:
        self._is_over()
        content = bytes(self._client.get_range(self._store, name, start=start, length=length))
        if len(content) != length:
            raise self._client.exceptions.GenericError(f"{len(content)} of {length} bytes of {name} came")
        return content

    def _tried(self, request: Callable[[], _T]) -> _T:
        """Make a request, and make it again while that can help."""
        pauses, end_s = _pauses(), time.monotonic() + self._patience_s
        while True:
            self._is_over()
            try:
                with _panics_named(self.address):
                    answer = request()
                self._has_answered = True
                return answer
            except (self._client.exceptions.BaseError, OSError, ValueError) as error:
                explained = self._explained(error)
                pause_s = next(pauses)
                is_late = time.monotonic() + pause_s > end_s or self._is_over()
                if is_late or not isinstance(explained, StoreAway):
                    raise explained from error
                time.sleep(pause_s)

    def _explained(self, error: Exception) -> PermanentError | StoreAway:
        kinds, text = self._client.exceptions, str(error)
        if isinstance(error, kinds.PermissionDeniedError | kinds.UnauthenticatedError | PermissionError):
            return PermanentError(
                f"the store refuses these credentials for {self.address}: correct them in the variables that the "
                f"client reads, or their rights ({_shortened(text)})"
            )
        if _CREDENTIALS.search(text):
            if self._has_answered or _PASSES.search(text):
                return StoreAway(f"nothing gives credentials for {self.address} now: {_shortened(text)}")
            return PermanentError(
                f"no credentials for {self.address} are found: set the variables that the client reads, such as "
                f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY ({_shortened(text)})"
            )
        if _NO_BUCKET.search(text):
            return PermanentError(f"there is no bucket for {self.address}: create it, or correct the address")
        if isinstance(error, FileNotFoundError):
            return ObjectMissing(f"{self.address} does not have what was asked for: {_shortened(text)}")
        if isinstance(error, kinds.UnknownConfigurationKeyError | kinds.InvalidPathError | ValueError):
            return PermanentError(f"{self.address} is no address of objects: {_shortened(text)}")
        return StoreAway(f"the object store at {self.address} does not answer: {_shortened(text)}")


def open_store(address: str) -> ObjectStore | None:
    """Open the store at an address of the settings; None where that is empty.

    Raises:
        PermanentError: as from `ObjectStore`.
    """
    return ObjectStore(address) if address else None


def _opened(address: str, request_s: float) -> Any:
    from obstore import store

    if address.startswith("file://"):
        return store.from_url(address, mkdir=True)
    return store.from_url(
        address,
        # Its own tries are few: the pauses in between are ours, so that the end of patience is.
        client_options={"timeout": f"{request_s} s", "connect_timeout": "5 s", "allow_http": True},
        retry_config={"max_retries": 1, "backoff": {}},
    )


@contextlib.contextmanager
def _panics_named(address: str) -> Iterator[None]:
    """Let the library's panics be errors like others."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise PermanentError(
            f"no request for {address} can be made: look for line breaks and the like in the variables that the client "
            f"reads, such as AWS_ACCESS_KEY_ID ({_shortened(str(error))})"
        ) from error


def _pauses() -> Iterator[float]:
    """Give growing pauses, in seconds, of which no two processes have the same."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1.5)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _shortened(text: str) -> str:
    """Give an error's text in one line, without what the library adds for its authors, nor what can be a signature."""
    text = _QUERY.sub("", _TOOK.sub("", " ".join(text.partition("Debug source:")[0].split())))
    return text if len(text) <= 300 else f"{text[:300]}..."
