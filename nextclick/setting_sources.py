"""Where settings are given, and which place wins: a file, then variables, then the command line, the last one first.

Variables that Kubernetes sets for its Services are none of ours, whatever a Service is called. This module reads no
environment: the caller hands it in.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from nextclick.errors import PermanentError
from nextclick.setting_values import Given

ENVIRONMENT_PREFIX = "NEXTCLICK_"
CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"  # names the file when the command line does not
USUAL_BROKER_VARIABLE = "KAFKA_BOOTSTRAP"  # the usual name of the broker's address elsewhere; counts least

# What Kubernetes tells every pod of each Service, before the pod's own variables (kubelet's envvars.go; the names are
# those of its documentation, "environment variables" of a Service). A Service `nextclick-worker` has a
# NEXTCLICK_WORKER_PORT, which is a setting of ours, too: there the value tells.
_OF_A_SERVICE = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_PORT_OF_A_SERVICE = re.compile(r"(\w+_)?PORT")
_ADDRESS_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://\S+:\d+")


def given_settings(
    environment: Mapping[str, str], overrides: Mapping[str, str], config: Path | None = None
) -> dict[str, Given]:
    """Collect what is given, by setting name; nothing is checked yet.

    Args:
        environment: variables; those without the prefix do not count, except KAFKA_BOOTSTRAP, which counts least.
        overrides: setting name to text, from `--set`.
        config: a TOML file; None: the one that NEXTCLICK_CONFIG names, if any.

    Raises:
        PermanentError: the file cannot be read, or is no TOML of settings.
    """
    given: dict[str, Given] = {}
    if environment.get(USUAL_BROKER_VARIABLE):
        given["broker"] = Given(environment[USUAL_BROKER_VARIABLE], USUAL_BROKER_VARIABLE, "environment")
    if config is None and environment.get(CONFIG_VARIABLE):
        config = Path(environment[CONFIG_VARIABLE])
    if config is not None:
        given |= _from_file(config)
    for variable, value in environment.items():
        if (
            variable.startswith(ENVIRONMENT_PREFIX)
            and variable != CONFIG_VARIABLE
            and not _of_kubernetes(variable.removeprefix(ENVIRONMENT_PREFIX), value)
        ):
            given[variable.removeprefix(ENVIRONMENT_PREFIX).lower()] = Given(value, variable, "environment")
    return given | {name: Given(value, "--set", "command line") for name, value in overrides.items()}


def unknown_setting(name: str, where: str, known: Collection[str], name_of_now: str | None) -> PermanentError:
    """Give the error for a name that is no setting's.

    Args:
        name: as it was given.
        where: what to correct.
        known: all names.
        name_of_now: what the setting is called since it was renamed, if it was.
    """
    if name_of_now is not None:
        remedy = f": it is now called {name_of_now!r}"
    elif close := difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1):
        remedy = f" (did you mean {close[0]!r}?)"
    else:
        remedy = ": `nextclick settings` lists them all"
    return PermanentError(f"there is no setting {name!r:.60}{remedy}; correct it in {where}")


def _of_kubernetes(name: str, value: str) -> bool:
    """Tell whether a variable, without our prefix, is one that Kubernetes sets for a Service."""
    if _OF_A_SERVICE.fullmatch(name):
        return True
    return bool(_PORT_OF_A_SERVICE.fullmatch(name) and _ADDRESS_OF_A_SERVICE.fullmatch(value))


def _from_file(path: Path) -> dict[str, Given]:
    try:
        values = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise PermanentError(
            f"the settings file {path} cannot be read: {error.strerror}; correct --config or {CONFIG_VARIABLE}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PermanentError(
            f"the settings file {path} is no TOML: {error}; write a line for each setting, as in "
            '`clicks_topic = "shop.events"`'
        ) from error
    for name, value in values.items():
        if isinstance(value, dict):
            raise PermanentError(
                f"the settings file {path} has a table {name!r:.60}, and settings are in none; write each as "
                "`name = value`, before any line in brackets"
            )
    return {name: Given(value, str(path), "file") for name, value in values.items()}
