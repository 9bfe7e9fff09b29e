"""Where a registry comes from the settings, without loading its client where there is none."""

from typing import TYPE_CHECKING

from nextclick.errors import PermanentError
from nextclick.settings import Settings

if TYPE_CHECKING:
    from tools.schema_registry.client import RegistryClient
    from tools.schema_registry.decoder import RegistryDecoder


def open_registry(settings: Settings) -> "RegistryDecoder | None":
    """Give the decoder for the registry of the settings; None where none is set. Asks nobody yet.

    Raises:
        PermanentError: the extra `registry` is not installed, or the client cannot use the settings.
    """
    if not settings.schema_registry:
        return None
    client = open_client(settings)
    from tools.schema_registry.decoder import RegistryDecoder

    return RegistryDecoder(client)


def open_client(settings: Settings) -> "RegistryClient":
    """Give the client of the registry that is set. Asks nobody yet.

    Raises:
        PermanentError: the extra `registry` is not installed, or the client cannot use the settings.
    """
    try:
        # Whatever of the extra is needed later is missing now.
        from tools.schema_registry import readers  # noqa: F401
        from tools.schema_registry.client import RegistryClient
    except ModuleNotFoundError as error:
        raise PermanentError(
            f"schema_registry is set and the package {error.name} is not installed; install `nextclick[registry]`"
        ) from None
    return RegistryClient(settings)
