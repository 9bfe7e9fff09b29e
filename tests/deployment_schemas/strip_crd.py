"""Makes the schemas here from CustomResourceDefinitions: `python tests/deployment_schemas/strip_crd.py CRD.yaml...`.

What a schema says for people is left out, and whatever has named properties may have no others: an API server would
drop them without a word.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent


def strict(schema: Any) -> Any:
    """Give a schema without descriptions that allows no unknown property."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: strict(part) for name, part in schema.items() if not _is_said(name, part)}
    if result.pop("x-kubernetes-int-or-string", False):
        result["type"] = ["integer", "string"]
    is_open = result.pop("x-kubernetes-preserve-unknown-fields", False)
    if isinstance(result.get("properties"), dict) and not is_open:
        result.setdefault("additionalProperties", False)
    return result


def _is_said(name: str, part: Any) -> bool:
    """Whether it is a text for people, or a rule that is no JSON schema; a property can be called so, too."""
    return (name in ("description", "format", "default") or name.startswith("x-kubernetes-validations")) and not (
        isinstance(part, dict)
    )


if __name__ == "__main__":
    for file in sys.argv[1:]:
        crd = yaml.safe_load(Path(file).read_text())
        kind = crd["spec"]["names"]["kind"]
        [version] = [version for version in crd["spec"]["versions"] if version["storage"]]
        schema = strict(version["schema"]["openAPIV3Schema"])
        schema["properties"] |= {"metadata": {"type": "object"}}
        schema["properties"].pop("status", None)
        schema["properties"]["apiVersion"] = {"const": f"{crd['spec']['group']}/{version['name']}"}
        text = json.dumps(schema, separators=(",", ":"), sort_keys=True)
        (HERE / f"{kind}.json").write_text(text + "\n")
