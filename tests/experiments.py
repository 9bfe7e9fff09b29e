"""Experiments for tests that need no bundle."""

from typing import Any

from nextclick.experiment import Experiment
from nextclick.manifest import BundleFile, Manifest, bundle_id_of

_FILES = (BundleFile("model.safetensors", "", 1),)
MANIFEST = Manifest(bundle_id=bundle_id_of(_FILES, {}, 1), created_ms=1, network={}, files=_FILES, metrics={})


def experiment_of(manifest: Manifest = MANIFEST, **changes: Any) -> Experiment:
    """A canary of a tenth of the users, but for what is given."""
    fields: dict[str, Any] = {"experiment_id": "e", "kind": "canary", "manifest": manifest, "champion": "0" * 16}
    return Experiment(**fields | {"share": 0.1, "started_ms": 0} | changes)
