"""What each setting is and where that comes from, with everything that is wrong. Shows no secret."""

import dataclasses
from collections.abc import Mapping
from typing import Literal, NamedTuple

from nextclick.errors import PermanentError
from nextclick.schema.click_schema import ClickSchema
from nextclick.setting_values import Given, choices
from nextclick.settings import GROUPS, Settings, read_given, setting_kinds


class SettingInForce(NamedTuple):
    """One setting as it is now.

    Attributes:
        name: of the setting.
        program: what it is for, one of `GROUPS`.
        value: in force; of a secret only whether there is one.
        default: the same of the value that nobody gave.
        source: where the value comes from.
        where: the file, the variable or the option that gives it; empty for a default.
        takes: its unit or its choices.
        reason: what it does.
    """

    name: str
    program: str
    value: object
    default: object
    source: Literal["default", "file", "environment", "command line"]
    where: str
    takes: str
    reason: str


def settings_in_force(given: Mapping[str, Given]) -> tuple[list[SettingInForce], list[PermanentError]]:
    """Give every setting, in the order of the fields, and what is wrong.

    A value that its setting does not take is not in force: such a setting is shown with its default.
    """
    values, mistakes = read_given(given)
    try:
        ClickSchema.of(Settings(**values))
    except PermanentError as mistake:  # values that do not go together, a path that cannot be read
        mistakes.append(mistake)
    settings, program = [], ""
    for field in dataclasses.fields(Settings):
        name, kind = field.name, setting_kinds()[field.name]
        program = GROUPS.get(name, program)
        place = given[name] if name in values else None
        settings.append(
            SettingInForce(
                name,
                program,
                kind.shown(values.get(name, field.default)),
                kind.shown(field.default),
                place.source if place is not None else "default",
                place.where if place is not None else "",
                field.metadata["unit"] or " | ".join(choices(kind)),
                field.metadata["reason"],
            )
        )
    return settings, mistakes
