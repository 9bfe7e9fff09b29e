"""Fetches from the schema registry what a chunk needs to be decoded, outside the event loop."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from nextclick.errors import TemporaryError
from nextclick.settings import Settings
from stream.protocol.reader import Chunk

if TYPE_CHECKING:  # its client is an extra
    from tools.schema_registry.decoder import RegistryDecoder

RETRY_S = 2.0
AT_ONCE = 20  # schemas, one question after the other
SAY_EVERY_S = 10.0
PATIENCE = 0.5  # of `stall_s`: then the worker ends with what the registry said, not with what it looks like
_log = logging.getLogger(__name__)


class SchemaLoader:
    """Loads schemas, one chunk after the other."""

    def __init__(self, registry: "RegistryDecoder", settings: Settings) -> None:
        self._registry = registry
        self._with_keys = settings.key_format == "registry"
        self._patience_s = PATIENCE * settings.stall_s
        self._thread = ThreadPoolExecutor(1, "schemas")
        self._said_s = -SAY_EVERY_S

    async def load(self, chunk: Chunk) -> None:
        """Make sure that a chunk can be decoded, or that its assignment is over; a registry that is away is waited for.

        Raises:
            TemporaryError: the registry has been away for long.
            PermanentError: it refuses us.
        """
        records = ((each.key, each.value, each.headers) for run in chunk.runs.values() for each in run.records)
        missing = sorted(self._registry.missing_schemas_of(records, with_keys=self._with_keys), key=str)
        n_all, end_s = len(missing), time.monotonic() + self._patience_s
        while missing and chunk.assignment.serves:
            ask = partial(self._registry.load, missing[:AT_ONCE])
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, ask)
                del missing[:AT_ONCE]
                problem = TemporaryError(
                    f"the schema registry has given {n_all - len(missing)} of {n_all} schemas so far"
                )
            except TemporaryError as error:
                problem = error
                await asyncio.sleep(RETRY_S)
            if missing:
                self._say_or_raise(problem, end_s)

    def _say_or_raise(self, problem: TemporaryError, end_s: float) -> None:
        now_s = time.monotonic()
        if now_s > end_s:
            raise problem
        if now_s > self._said_s + SAY_EVERY_S:
            self._said_s = now_s
            _log.warning("waiting, no click is lost: %s", problem)
