"""The settings of an aiokafka client and of Faust's, from the one settings object. Opens no connection."""

import ssl
from typing import Any

from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InvalidSessionTimeoutError,
    KafkaConnectionError,
    NodeNotReadyError,
)
from faust.auth import SASLCredentials, SSLCredentials

from nextclick.errors import PermanentError
from nextclick.settings import Settings


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """Give the TLS context of every Python client, or None without TLS.

    Raises:
        PermanentError: a file of keys or certificates cannot be used.
    """
    if not settings.security_protocol.endswith("SSL"):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_file or None)
        if settings.tls_certificate_file:
            context.load_cert_chain(settings.tls_certificate_file, settings.tls_key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise PermanentError(
            f"expected usable files in tls_ca_file, tls_certificate_file and tls_key_file, found: {error}; correct them"
        ) from error
    return context


def aiokafka_config(settings: Settings) -> dict[str, Any]:
    """Where the broker is and how to speak to it."""
    config: dict[str, Any] = {
        "bootstrap_servers": settings.broker.split(","),
        "security_protocol": settings.security_protocol,
        "ssl_context": ssl_context(settings),
    }
    if settings.security_protocol.startswith("SASL"):
        config |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password,
        }
    return config


def faust_broker_options(settings: Settings) -> dict[str, Any]:
    """The same for a Faust app."""
    options: dict[str, Any] = {"broker": [f"kafka://{address}" for address in settings.broker.split(",")]}
    context = ssl_context(settings)
    if settings.security_protocol.startswith("SASL"):
        options["broker_credentials"] = SASLCredentials(
            username=settings.sasl_username,
            password=settings.sasl_password,
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    elif context is not None:
        options["broker_credentials"] = SSLCredentials(context)
    return options


def is_unreachable(error: Exception) -> bool:
    """Tell whether a client found no broker to talk to."""
    return isinstance(error, KafkaConnectionError | NodeNotReadyError)


def refused_by_group(error: Exception) -> str | None:
    """Say why the consumer group does not take this worker, and what to do; None when it is another error."""
    if isinstance(error, InvalidSessionTimeoutError):
        return (
            "Invalid session timeout; set session_timeout_s to what the broker takes, from its "
            "group.min.session.timeout.ms (6 s by default) to its group.max.session.timeout.ms"
        )
    if isinstance(error, GroupAuthorizationFailedError):
        return "its user has no right to it; give that right, Read on the group"
    return None
