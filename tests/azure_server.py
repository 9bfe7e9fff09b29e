"""An Azure Blob API in a process of its own: Azurite, Microsoft's own, with one container."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.node_packages import node_program
from tests.trainers import free_port

CONTAINER = "shop"
START_S = 60.0
_PACKAGES = Path(__file__).parent / "azurite"
_ACCOUNT = "devstoreaccount1"
# No secret: every Azurite has it.
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def azure_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run the server, its data in a folder; gives what a client reads to find it."""
    program, port = node_program(_PACKAGES), free_port()
    address = f"http://127.0.0.1:{port}/{_ACCOUNT}"
    options = ["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location", folder, "--blobPort", str(port)]
    command = ["node", program / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js", *options]
    with (folder / "log").open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _make_container(program, address, process)
            yield {
                "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
                "AZURE_STORAGE_ENDPOINT": address,
                "AZURE_ALLOW_HTTP": "true",
            }
        finally:
            process.kill()


def _make_container(program: Path, address: str, process: "subprocess.Popen[bytes]") -> None:
    named = f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};BlobEndpoint={address};"
    end_s = time.monotonic() + START_S
    while subprocess.run(
        ["node", "container.mjs", named, CONTAINER], cwd=program, check=False, capture_output=True
    ).returncode:
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() < end_s, "the server does not answer"
