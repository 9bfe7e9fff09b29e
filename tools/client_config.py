"""The settings of a librdkafka client (confluent-kafka) that every one of them shares. Opens no connection."""

from nextclick.settings import Settings


def librdkafka_config(settings: Settings) -> dict[str, str | int | float | bool]:
    """Where the broker is, how to speak to it, and the rules that hold for every consumer and producer here."""
    config: dict[str, str | int | float | bool] = {
        "bootstrap.servers": settings.broker,
        "security.protocol": settings.security_protocol,
        # Quiet by itself: a program that cannot reach its broker says so once, in its own words.
        "log_level": 0,
    }
    if settings.security_protocol.startswith("SASL"):
        config["sasl.mechanism"] = settings.sasl_mechanism
        config["sasl.username"] = settings.sasl_username
        config["sasl.password"] = settings.sasl_password
    if settings.security_protocol.endswith("SSL"):
        for option, value in (
            ("ssl.ca.location", settings.tls_ca_file),
            ("ssl.certificate.location", settings.tls_certificate_file),
            ("ssl.key.location", settings.tls_key_file),
        ):
            if value:
                config[option] = value
    return config


def producer_config(settings: Settings) -> dict[str, str | int | float | bool]:
    """A producer that loses nothing, keeps the order, and picks partitions as the settings say."""
    return librdkafka_config(settings) | {
        "acks": "all",
        "enable.idempotence": True,
        # What we write to a topic that is keyed in another way has its partition named, or no key that matters.
        "partitioner": settings.partitioner if settings.partitioner != "none" else "murmur2_random",
    }


def consumer_config(settings: Settings, group: str) -> dict[str, str | int | float | bool]:
    """A consumer that sees only what was committed, and commits nothing by itself."""
    return librdkafka_config(settings) | {
        "group.id": group,
        "isolation.level": "read_committed",
        "check.crcs": True,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    }
