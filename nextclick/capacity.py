"""What a load needs: computed from what a click, an item and a user were measured to cost. Pure.

`python -m bench --only costs` prints the costs as they stand here; `python -m contracts --write` then writes
docs/capacity.md, which explains the arithmetic, and says what breaks first.
"""

import math
from typing import NamedTuple

HOUR_S = 3_600
DAY_S = 24 * HOUR_S
MB = 1e6


class Costs(NamedTuple):
    """What was measured, on one core of the machine that docs/capacity.md names.

    Attributes:
        worker_us_per_click: CPU, in us, but for scoring.
        worker_us_per_click_and_item: CPU, in us, to score one item for one click.
        log_us_per_click: CPU, in us, to read a click and write it to the click log.
        train_us_per_click: CPU, in us, to learn a click anew, all passes over it together.
        click_bytes, update_bytes, change_bytes: of a record of a click, an update, a state that holds all that it ever
            will; before compression.
        state_bytes: that such a state takes in a worker's store.
        log_bytes_per_click: in the click log, where users are many.
        worker_bytes: memory of a worker beside the items.
        own_item_bytes: of an item in the memory of a worker, beside the served form.
        form_item_bytes: of an item in the served form, but for its neighbours; workers of a machine share it.
        bundle_item_bytes: of an item in a bundle on disk, which has room for 100 neighbours.
    """

    worker_us_per_click: float
    worker_us_per_click_and_item: float
    log_us_per_click: float
    train_us_per_click: float
    click_bytes: float
    update_bytes: float
    change_bytes: float
    state_bytes: float
    log_bytes_per_click: float
    worker_bytes: float
    own_item_bytes: float
    form_item_bytes: float
    bundle_item_bytes: float


MEASURED = Costs(
    worker_us_per_click=59.4,
    worker_us_per_click_and_item=0.00111,
    log_us_per_click=13.3,
    train_us_per_click=54.8,
    click_bytes=204.0,
    update_bytes=1_140.0,
    change_bytes=750.0,
    state_bytes=566.0,
    log_bytes_per_click=30.0,
    worker_bytes=447_000_000.0,
    own_item_bytes=84.1,
    form_item_bytes=888.0,
    bundle_item_bytes=1_340.0,
)


class Rules(NamedTuple):
    """How full things may be, and how topics are kept: what the arithmetic assumes.

    Attributes:
        busy: share of a core that is used in the mean; the rest is for peaks, swaps and a worker that is away.
        replicas: copies that the brokers keep.
        standby: copies of a user's state in other workers.
        click_days: for which clicks are kept.
        broker_mb_per_s: that a broker takes from producers and other brokers.
        broker_disk_tb: of a broker.
        broker_partitions: that a broker has, copies included.
        window_clicks: that a training uses (`recent_window_clicks`, `replay_share`).
        round_costs: what a round takes for a new click, over learning it anew: it learns older ones with it (a tenth of
            new clicks took .18 to .25 of a training anew, docs/decisions/0034).
        gpu_cores: that an H100 is worth to a training: 34 times two of its machine (docs/benchmarks.md).
        neighbours: of an item in the served form (setting `neighbours`), 8 bytes each.
        bundle_copies: on a worker's disk: the served bundle and the one before.
        partitions_per_worker: so that workers can be added, and one that leaves is shared by many.
    """

    busy: float = 0.6
    replicas: int = 3
    standby: int = 1
    click_days: int = 7
    broker_mb_per_s: float = 100.0
    broker_disk_tb: float = 4.0
    broker_partitions: int = 4_000
    window_clicks: float = 600_000.0
    round_costs: float = 2.0
    gpu_cores: float = 68.0
    neighbours: int = 100
    bundle_copies: int = 2
    partitions_per_worker: int = 4


USUAL = Rules()


class Load(NamedTuple):
    """What comes: users whose state is kept, clicks/s in the mean of the busiest hour, items of the catalogue.

    What is kept for days is computed as if every hour were that one: it is more than will be there.
    """

    users: int
    clicks_per_s: float
    items: int


class WorkerNeed(NamedTuple):
    """What one worker needs.

    Attributes:
        memory_mb: with a served form for itself, as a pod has it.
        swap_memory_mb: the same, while another bundle takes the place of the served one.
        form_mb: of it, what workers of one machine have once for all of them.
        disk_gb: states, copies of bundles, and two served forms.
        restore_s: until its states are read from the changelog at 50 MB/s, without a standby copy; at most.
    """

    memory_mb: float
    swap_memory_mb: float
    form_mb: float
    disk_gb: float
    restore_s: float


class BrokersNeed(NamedTuple):
    """What the brokers need.

    Attributes:
        brokers: at least, and `by` says what asks for most.
        written_mb_per_s: by producers, before the brokers copy it.
        read_mb_per_s: by workers, trainer, one reader of the updates, and standby copies.
        disk_tb: all brokers together.
    """

    brokers: int
    by: str
    written_mb_per_s: float
    read_mb_per_s: float
    disk_tb: float


class TrainerNeed(NamedTuple):
    """What the trainer needs.

    Attributes:
        log_cores: for the click log alone.
        log_gb_per_day: of the click log.
        learn_cores: so that rounds learn every click.
        learn_gpus: the same, in H100.
        window_s: of time, that a training sees.
        anew_s: of a training anew, on one core.
    """

    log_cores: float
    log_gb_per_day: float
    learn_cores: float
    learn_gpus: float
    window_s: float
    anew_s: float


class Need(NamedTuple):
    """What a load needs.

    Attributes:
        us_per_click: CPU of a worker.
        workers: of one core each.
        partitions: of the topics.
        each: what each worker needs.
        brokers, trainer: what they need.
    """

    us_per_click: float
    workers: int
    partitions: int
    each: WorkerNeed
    brokers: BrokersNeed
    trainer: TrainerNeed


_RESTORE_MB_PER_S = 50.0
_CLEANED_AT = 2.0  # times what is needed, when a compacted topic is cleaned (min.cleanable.dirty.ratio 0.5)
_CHANGELOG_LAG_S = HOUR_S  # for which every change of a state is kept (min.compaction.lag.ms)
_SEGMENT_BYTES = 2.0**30  # of a partition, the newest of which is never cleaned (segment.bytes)
_SEGMENT_S = 7 * DAY_S  # for which it is the newest at most (segment.ms)


def need_of(load: Load, costs: Costs = MEASURED, rules: Rules = USUAL) -> Need:
    """Compute what a load needs."""
    us_per_click = costs.worker_us_per_click + costs.worker_us_per_click_and_item * load.items
    workers = max(2, math.ceil(load.clicks_per_s * us_per_click / 1e6 / rules.busy))
    partitions = workers * rules.partitions_per_worker
    changelog_bytes = _compacted_bytes(load, costs.change_bytes, partitions, _CHANGELOG_LAG_S)
    return Need(
        us_per_click=us_per_click,
        workers=workers,
        partitions=partitions,
        each=_each_worker(load, costs, rules, workers, changelog_bytes),
        brokers=_brokers(load, costs, rules, partitions, changelog_bytes),
        trainer=_trainer(load, costs, rules),
    )


def _compacted_bytes(load: Load, record_bytes: float, partitions: int, lag_s: float) -> float:
    """Give what a compacted topic holds at most: what is needed, what waits to be cleaned, and what may not be."""
    written_per_s = load.clicks_per_s * record_bytes
    newest_segments = min(partitions * _SEGMENT_BYTES, written_per_s * _SEGMENT_S)
    return load.users * record_bytes * _CLEANED_AT + written_per_s * lag_s + newest_segments


def _each_worker(load: Load, costs: Costs, rules: Rules, workers: int, changelog_bytes: float) -> WorkerNeed:
    form_bytes = load.items * (costs.form_item_bytes + 8 * rules.neighbours)
    bundle_bytes = load.items * costs.bundle_item_bytes
    memory_bytes = costs.worker_bytes + load.items * costs.own_item_bytes + form_bytes
    states_bytes = load.users / workers * costs.state_bytes * (1 + rules.standby)
    return WorkerNeed(
        memory_mb=memory_bytes / MB,
        swap_memory_mb=(memory_bytes + form_bytes) / MB,
        form_mb=form_bytes / MB,
        disk_gb=(states_bytes + rules.bundle_copies * bundle_bytes + 2 * form_bytes) / 1e9,
        restore_s=changelog_bytes / workers / MB / _RESTORE_MB_PER_S,
    )


def _brokers(load: Load, costs: Costs, rules: Rules, partitions: int, changelog_bytes: float) -> BrokersNeed:
    written = load.clicks_per_s * (costs.click_bytes + costs.update_bytes + costs.change_bytes) / MB
    read = load.clicks_per_s * (2 * costs.click_bytes + costs.update_bytes + rules.standby * costs.change_bytes) / MB
    kept = load.clicks_per_s * DAY_S * rules.click_days * costs.click_bytes
    kept += _compacted_bytes(load, costs.update_bytes, partitions, 0) + changelog_bytes
    disk_tb = kept * rules.replicas / 1e12
    by = {
        "three copies": float(rules.replicas),
        "what is written": written * rules.replicas / rules.broker_mb_per_s,
        "disks": disk_tb / rules.broker_disk_tb,
        "partitions": 3 * partitions * rules.replicas / rules.broker_partitions,
    }
    most = max(by, key=lambda name: by[name])
    return BrokersNeed(math.ceil(by[most]), most, written, read, disk_tb)


def _trainer(load: Load, costs: Costs, rules: Rules) -> TrainerNeed:
    learn_cores = load.clicks_per_s * costs.train_us_per_click * rules.round_costs / 1e6
    return TrainerNeed(
        log_cores=load.clicks_per_s * costs.log_us_per_click / 1e6,
        log_gb_per_day=load.clicks_per_s * DAY_S * costs.log_bytes_per_click / 1e9,
        learn_cores=learn_cores,
        learn_gpus=learn_cores / rules.gpu_cores,
        window_s=rules.window_clicks / load.clicks_per_s,
        anew_s=rules.window_clicks * costs.train_us_per_click / 1e6,
    )
