"""Asks the schema registry for schemas and what they refer to. Blocks; every failure is said in our words."""

import contextlib
import functools
import ssl
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from confluent_kafka.schema_registry import RegisteredSchema, Schema, SchemaRegistryClient, SchemaRegistryError

from nextclick.errors import PermanentError, TemporaryError
from nextclick.schema.wire_format import SchemaId
from nextclick.settings import Settings

ANSWER_S = 5.0  # to connect, and again for the answer
_REFUSED = (401, 403)
_TOO_MANY, _TOO_SLOW = 429, 408
_NOT_FOUND = 404
_INCOMPATIBLE, _INVALID = 409, 422
_SHORT = 200  # characters of what the registry says
_MAX_REFERENCES = 1_000  # of one schema, those of its references included

Version = tuple[str, int]  # a subject and a version of it


class UnknownSchema(Exception):
    """The registry does not know a schema, or not in a way that it can be read. The text says why."""


class FetchedSchema(NamedTuple):
    """A schema with all that it takes to read it.

    Attributes:
        schema: as the registry has it.
        references: every schema that it refers to, and that those refer to.
    """

    schema: Schema
    references: Mapping[Version, RegisteredSchema]


class RegistryClient:
    """The HTTP client of one registry."""

    def __init__(self, settings: Settings) -> None:
        """Prepare the client; nothing is asked yet.

        Raises:
            PermanentError: the CA file cannot be read.
        """
        self.address = settings.schema_registry
        config: dict[str, Any] = {"url": settings.schema_registry, "timeout": ANSWER_S, "max.retries": 0}
        if settings.schema_registry_username:
            config["basic.auth.user.info"] = f"{settings.schema_registry_username}:{settings.schema_registry_password}"
        # Without one, the client trusts a list that comes with Python packages, not the system's.
        if authorities := settings.tls_ca_file or ssl.get_default_verify_paths().cafile:
            config["ssl.ca.location"] = authorities
        try:
            self._client = SchemaRegistryClient(config)
        except OSError as error:
            raise PermanentError(
                f"the authorities in {authorities} cannot be read: {error.strerror}; correct tls_ca_file"
            ) from None

    def fetch(self, schema_id: SchemaId) -> FetchedSchema:
        """Ask for a schema and its references.

        Blocks: a registry that does not answer is given up after 10 s for each of its addresses.

        Raises:
            UnknownSchema: the registry does not know it, or something that it refers to.
            TemporaryError: the registry does not answer, or says that it cannot now.
            PermanentError: it refuses, or what answers is no schema registry.
        """
        if isinstance(schema_id, UUID):
            by_uuid = functools.partial(self._client.get_schema_by_guid, str(schema_id))
            # To many registries, the question itself is unknown.
            schema = self._ask(by_uuid, f"schema {schema_id}", may_be_unheard_of=True)
        else:
            schema = self._ask(functools.partial(self._client.get_schema, schema_id), f"schema {schema_id}")
        references: dict[Version, RegisteredSchema] = {}
        self._fetch_references(schema, references)
        return FetchedSchema(schema, references)

    def register(self, subject: str, schema: Schema) -> int:
        """Give the id of a schema under a subject; register it where it is not there yet, which needs the right to.

        Blocks as `fetch` does.

        Raises:
            TemporaryError: the registry does not answer, or says that it cannot now.
            PermanentError: it refuses us or the schema, or what answers is no schema registry.
        """
        what = f"our schema of the subject {subject!r}"
        with contextlib.suppress(UnknownSchema):
            found: RegisteredSchema = self._ask(functools.partial(self._client.lookup_schema, subject, schema), what)
            known: int = found.schema_id
            return known
        number: int = self._ask(functools.partial(self._client.register_schema, subject, schema), what)
        return number

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _fetch_references(self, schema: Schema, references: dict[Version, RegisteredSchema]) -> None:
        waiting = list(schema.references or ())
        while waiting:
            reference = waiting.pop()
            version = (reference.subject, reference.version)
            if version in references:
                continue
            if len(references) == _MAX_REFERENCES:
                raise UnknownSchema(f"its schema refers to more than {_MAX_REFERENCES} others")
            found = self._ask(
                functools.partial(self._client.get_version, *version, deleted=True),
                f"version {version[1]} of {version[0]!r}, which a schema refers to",
            )
            references[version] = found
            waiting += found.schema.references or ()

    def _ask(self, question: Callable[[], Any], what: str, *, may_be_unheard_of: bool = False) -> Any:
        try:
            answer = question()
        except SchemaRegistryError as error:
            raise self._meaning(error, what, may_be_unheard_of) from None
        except (ValueError, TypeError, AttributeError, KeyError):
            raise self._no_registry("what it says is not a registry's JSON") from None
        except Exception as error:  # of the HTTP library, which is another one in other versions of the client
            if (reason := _untrusted(error)) is not None:
                raise PermanentError(
                    f"the certificate of the schema registry at {self.address} is not trusted ({reason}); "
                    "correct tls_ca_file"
                ) from None
            raise TemporaryError(
                f"the schema registry at {self.address} does not answer ({type(error).__name__}); "
                "start it, or correct schema_registry"
            ) from None
        if getattr(answer, "schema_str", True) is None:
            raise self._no_registry("its JSON has no schema")
        return answer

    def _meaning(self, error: SchemaRegistryError, what: str, may_be_unheard_of: bool) -> Exception:
        status = error.http_status_code
        if status in _REFUSED:
            return PermanentError(
                f"the schema registry at {self.address} refuses us (status {status}); "
                "correct schema_registry_username and schema_registry_password, or what they may do there"
            )
        if status in (_INCOMPATIBLE, _INVALID):
            return PermanentError(
                f"the schema registry at {self.address} does not take {what} (status {status}: "
                f"{error.error_message!s:.{_SHORT}}); remove that subject or loosen its compatibility, or register the "
                "schema from docs/contracts"
            )
        if status in (_TOO_MANY, _TOO_SLOW) or status >= 500:
            return TemporaryError(f"the schema registry at {self.address} cannot answer now (status {status})")
        # 40403, for example, is a registry's word; 404 alone says that there is no such page.
        if status == _NOT_FOUND and (may_be_unheard_of or (error.error_code or 0) // 100 == _NOT_FOUND):
            return UnknownSchema(f"the schema registry does not know {what}")
        return self._no_registry(f"status {status}")

    def _no_registry(self, found: str) -> PermanentError:
        return PermanentError(
            f"expected a schema registry with Confluent's API at {self.address}, found something else ({found}); "
            "correct schema_registry (Apicurio has that API below /apis/ccompat/v7)"
        )


def _untrusted(error: BaseException | None) -> str | None:
    """Say why a certificate was not trusted, if that is what is behind an error."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None
