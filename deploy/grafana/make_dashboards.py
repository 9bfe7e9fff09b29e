"""Makes the dashboards: `python deploy/grafana/make_dashboards.py` writes deploy/grafana/dashboards/*.json anew.

Three dashboards, each on the same four questions: is it healthy, is it fast, is it any good, what does it cost. Needs
grafana-foundation-sdk, of the extra `dev`; a test compares the files with what is made here. No legend names a bundle:
there would be a line more for every training.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import (
    DataSourceRef,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
WIDTH, HEIGHT, FIGURE_HEIGHT = 8, 8, 4  # of a panel, in Grafana's 24 columns
APP = 'app=~"$app"'
WINDOW = "[$__rate_interval]"
LONG = "[1h]"  # for what is counted seldom

Query = tuple[str, str]  # PromQL, and the legend
Panel = Builder[model.Panel]


@dataclass(frozen=True)
class Limit:
    """Where a value turns yellow, and where red; `high` is bad, or else low is."""

    yellow: float
    red: float
    high: bool = True

    def build(self) -> build.ThresholdsConfig:
        """As Grafana has it: steps that begin with whatever is below the first value."""
        steps = [("green", None), ("yellow", self.yellow), ("red", self.red)]
        if not self.high:
            steps = [("red", None), ("yellow", self.red), ("green", self.yellow)]
        thresholds = [model.Threshold(color=color, value=value) for color, value in steps]
        return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(thresholds)


def rate(metric: str, by: str = "", match: str = "", window: str = WINDOW) -> str:
    """A counter's rise in a second, summed; `by` and `match` are labels."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{{', '.join(filter(None, (APP, match)))}}}{window}))"


def rise(metric: str, seconds: int, by: str = "") -> str:
    """How much a counter rose within some seconds, summed by a label.

    What stands in a young process's first scrape is no rise, and it came within that time all the same.
    """
    grouping = f" by ({by})" if by else ""
    young = f"on (app, job, instance) time() - process_start_time_seconds{{{APP}}} < {seconds}"
    return f"sum{grouping} (increase({metric}{{{APP}}}[{seconds}s]) > 0 or {metric}{{{APP}}} and {young})"


def quantile(share: float, histogram: str, by: str = "", match: str = "") -> Query:
    """A quantile of a histogram, with its name."""
    label = f"p{100 * share:g}" + (f" {{{{{by}}}}}" if by else "")
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', f'le, {by}'.strip(', '), match)})", label


def ratio(part: str, whole: str, window: str = LONG, match: str = "") -> str:
    """One counter as a share of another."""
    return f"{rate(part, '', match, window)} / {rate(whole, '', match, window)}"


def figure(title: str, query: str, unit: str, limit: Limit | None = None, description: str = "") -> Panel:
    """One number, coloured by its limits."""
    panel = stat.Panel().title(title).description(description).datasource(SOURCE).unit(unit).span(4)
    panel = panel.height(FIGURE_HEIGHT).with_target(Dataquery().expr(query).ref_id("A").instant())
    return panel.thresholds(limit.build()) if limit else panel


def lines(
    title: str, unit: str, queries: Sequence[Query], *, limit: Limit | None = None, description: str = ""
) -> Panel:
    """Values over time, with their limits as dashed lines."""
    legend = common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
    panel = timeseries.Panel().title(title).description(description).datasource(SOURCE).unit(unit)
    panel = panel.span(WIDTH).height(HEIGHT).fill_opacity(5).axis_soft_min(0)
    panel = panel.legend(legend.display_mode(LegendDisplayMode.LIST))
    panel = panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    for place, (query, label) in enumerate(queries):
        target = Dataquery().expr(query).legend_format(label).ref_id(chr(ord("A") + place))
        panel = panel.with_target(target.exemplar(True) if f"{ANSWERED}_bucket" in query else target)
    if limit:
        style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(limit.build()).thresholds_style(style)
    return panel


def names(title: str, query: str, description: str = "") -> Panel:
    """What info metrics say now, as a table: it does not grow with time."""
    target = Dataquery().expr(query).instant().format(PromQueryFormat.TABLE).ref_id("A")
    panel = table.Panel().title(title).description(description).datasource(SOURCE).with_target(target)
    return panel.span(WIDTH).height(HEIGHT)


LATE = Limit(0.01, 0.144)
HOUR_S, DAY_S = 3_600, 86_400
# Some alerts are of no application: that no worker is known any more, for example.
FIRING = 'ALERTS{alertname=~"Nextclick.*", alertstate="firing", app=~"$app|"}'
REQUESTS = "nextclick_feed_request_seconds"
READS = 'method="GET", route=~"/v1/.*"'
JUDGED = "nextclick_live_judged_total"
APPLIED = rate("nextclick_clicks_total", match='outcome="applied"', window=LONG)
ANSWERED = "nextclick_click_to_update_seconds"
PARTS = [
    (f"{rate(f'nextclick_click_{part}_seconds_sum')} / {rate(f'nextclick_click_{part}_seconds_count')}", part)
    for part in ("wait", "compute", "publish")
]
MEMORY = f"nextclick_memory_used_bytes{{{APP}}} / nextclick_memory_limit_bytes{{{APP}}}"
FREE = f"nextclick_disk_free_bytes{{{APP}}} / nextclick_disk_size_bytes{{{APP}}}"
COSTS = [
    lines(
        "CPU",
        "none",
        [(rate("process_cpu_seconds_total", "job, instance"), "{{job}} {{instance}}")],
        description="Cores in use.",
    ),
    lines(
        "Memory",
        "percentunit",
        [(MEMORY, "{{job}} {{instance}}")],
        limit=Limit(0.8, 0.9),
        description="Of the container's limit, with all of its processes; or of the machine's memory.",
    ),
    lines("Free disk", "percentunit", [(FREE, "{{instance}} {{folder}}")], limit=Limit(0.4, 0.03, high=False)),
]

Rows = dict[str, list[Panel]]

SERVICE: Rows = {
    "Healthy?": [
        figure("Alerts that fire", f"count({FIRING}) or vector(0)", "none", Limit(1, 1)),
        figure(
            "Workers that serve", f'sum(nextclick_phase{{{APP}, phase="serving"}})', "none", Limit(2, 1, high=False)
        ),
        figure("Partitions served", f"sum(nextclick_partitions{{{APP}}})", "none", Limit(1, 1, high=False)),
        figure("Feeds that are ready", f'sum(nextclick_ready{{{APP}, job="feed"}})', "none", Limit(1, 1, high=False)),
        figure("Kafka answers", f"min(nextclick_broker_reachable{{{APP}}})", "none", Limit(1, 1, high=False)),
        figure(
            "Clicks lost",
            f"{rise('nextclick_clicks_lost_total', DAY_S)} or vector(0)",
            "none",
            Limit(1, 1),
            "Within a day.",
        ),
        lines(
            "Clicks by what became of them",
            "cps",
            [
                (rate("nextclick_clicks_total", "outcome"), "{{outcome}}"),
                (rate("nextclick_clicks_rejected_total"), "rejected"),
                (rate("nextclick_records_ignored_total"), "ignored"),
            ],
        ),
        lines(
            "Rejected, by reason",
            "cps",
            [(rate("nextclick_clicks_rejected_total", "reason"), "{{reason}}")],
        ),
        lines(
            "Oldest click that waits",
            "s",
            [(f"max(nextclick_oldest_click_age_seconds{{{APP}}})", "oldest")],
            limit=Limit(5, 30),
        ),
        lines(
            "Clicks that wait, by partition",
            "none",
            [(f"topk(10, max by (partition) (nextclick_lag_records{{{APP}}}))", "{{partition}}")],
            description="The ten partitions with the most.",
        ),
        lines(
            "Oldest click that waits, by partition",
            "s",
            [(f"topk(10, max by (partition) (nextclick_oldest_click_age_seconds{{{APP}}}))", "{{partition}}")],
            limit=Limit(5, 30),
            description="The ten partitions with the oldest. One alone: it stands still, or one user clicks in it.",
        ),
        lines(
            "Partitions",
            "none",
            [
                (f"sum(nextclick_partitions{{{APP}}})", "served"),
                (f"max(nextclick_topic_partitions{{{APP}}})", "of the topic"),
            ],
        ),
        lines(
            "Ready",
            "none",
            [(f"min by (job, instance) (nextclick_ready{{{APP}}})", "{{job}} {{instance}}")],
            description="1: /readyz says that it does its work. A trainer that waits for its turn is not ready.",
        ),
        lines(
            "Records that wait for rekey",
            "none",
            [(f"sum(nextclick_rekey_lag_records{{{APP}}})", "records")],
            description="Where a topic is copied to one with usable keys.",
        ),
        lines(
            "Broker reachable",
            "none",
            [(f"min by (job, instance) (nextclick_broker_reachable{{{APP}}})", "{{job}} {{instance}}")],
        ),
        lines(
            "Partitions move",
            "none",
            [
                (f"sum(increase(nextclick_rebalances_total{{{APP}}}{LONG}))", "assignments"),
                (f"sum(increase(nextclick_lease_lost_total{{{APP}}}{LONG}))", "leases lost"),
                (f"sum(changes(process_start_time_seconds{{{APP}}}{LONG}))", "starts"),
            ],
            description="Within an hour.",
        ),
        lines(
            "States to restore",
            "none",
            [
                (f"sum(nextclick_recovery_left_records{{{APP}}})", "recovery"),
                (f"sum(nextclick_standby_lag_records{{{APP}}})", "standby copies"),
            ],
        ),
        lines(
            "What is known of items is so old",
            "s",
            [
                (f"max(nextclick_items_age_seconds{{{APP}}})", "workers"),
                (f"max(nextclick_feed_items_age_seconds{{{APP}}})", "feeds"),
            ],
            limit=Limit(0.8, 5),
        ),
        lines(
            "Requests by status",
            "reqps",
            [(rate("nextclick_feed_requests_total", "status", 'route=~"/v1/.*"') + " > 0", "{{status}}")],
        ),
    ],
    "Fast?": [
        lines(
            "Click to list",
            "s",
            [quantile(share, ANSWERED) for share in (0.5, 0.99, 0.999)],
            limit=Limit(0.5, 5),
            description="From the click's record until Kafka has its list; of every click.",
        ),
        lines("Where the time goes", "s", PARTS, description="Means; they add up to the whole."),
        lines(
            "Clicks that are late",
            "percentunit",
            [
                ("app:nextclick_clicks_late:ratio_rate5m" + f"{{{APP}}}", "5 min"),
                ("app:nextclick_clicks_late:ratio_rate1h" + f"{{{APP}}}", "1 h"),
            ],
            limit=LATE,
            description="The objective: 99% of clicks within 500 ms.",
        ),
        lines(
            "Reads, by route",
            "s",
            [quantile(0.99, REQUESTS, "route", READS)],
            limit=Limit(0.05, 0.5),
        ),
        lines(
            "Reads that are slow",
            "percentunit",
            [
                ("app:nextclick_feed_reads_late:ratio_rate5m" + f"{{{APP}}}", "5 min"),
                ("app:nextclick_feed_reads_late:ratio_rate1h" + f"{{{APP}}}", "1 h"),
            ],
            limit=Limit(0.001, 0.0144),
            description="The objective: 99.9% of reads under 50 ms.",
        ),
        lines(
            "Click to a feed's store",
            "s",
            [quantile(share, "nextclick_feed_click_to_stored_seconds") for share in (0.5, 0.99)],
        ),
        lines("Clicks of a batch", "none", [quantile(share, "nextclick_chunk_clicks") for share in (0.5, 0.99)]),
        lines("Computing a batch", "s", [quantile(share, "nextclick_advance_seconds") for share in (0.5, 0.99)]),
        lines("Restoring states", "s", [quantile(0.99, "nextclick_recovery_seconds")]),
    ],
    "Any good?": [
        lines(
            "Hit rate",
            "percentunit",
            [
                (ratio("nextclick_live_hits_total", JUDGED), "lists"),
                (ratio("nextclick_live_popularity_hits_total", JUDGED), "popular items"),
            ],
            description="More of it on the dashboard of recommendations.",
        ),
        lines(
            "Lists by kind",
            "cps",
            [(rate("nextclick_updates_total", "strategy"), "{{strategy}}")],
            description="rnn: the network's. popular: it knows nothing of the user yet.",
        ),
        names("Models served", f"count by (app, bundle, instance) (nextclick_bundle_info{{{APP}}})"),
    ],
    "What does it cost?": [
        *COSTS,
        lines(
            "Folders",
            "bytes",
            [(f"sum by (job, folder) (nextclick_folder_bytes{{{APP}}})", "{{job}} {{folder}}")],
        ),
        lines(
            "Users",
            "none",
            [
                (f"sum(nextclick_state_users{{{APP}}})", "with a state"),
                (f"max(nextclick_feed_users{{{APP}}})", "with a list"),
            ],
            description="Estimates.",
        ),
        lines("Open streams", "none", [(f"sum(nextclick_feed_streams{{{APP}}})", "streams")]),
    ],
}

RECOMMENDATIONS: Rows = {
    "Healthy?": [
        figure("Models served", "max(app:nextclick_bundles_served:count" + f"{{{APP}}})", "none", Limit(2, 2)),
        figure(
            "Model's age",
            f"time() - max(nextclick_bundle_created_timestamp_seconds{{{APP}}} > 0)",
            "s",
            Limit(43_200, 86_400),
        ),
        figure("Items of the model", f"max(nextclick_bundle_items{{{APP}}})", "none"),
        figure("New items in lists", f"max(nextclick_live_items{{{APP}}})", "none"),
        names("Which models", f"count by (app, bundle, cell) (nextclick_bundle_info{{{APP}}})"),
        lines(
            "Swaps",
            "none",
            [(rise("nextclick_bundle_swaps_total", HOUR_S, "result"), "{{result}}")],
            description="Within an hour, of all workers.",
        ),
    ],
    "Fast?": [
        lines("Computing a batch", "s", [quantile(share, "nextclick_advance_seconds") for share in (0.5, 0.99)]),
        lines(
            "Computing, for each click",
            "s",
            [(f"{rate('nextclick_advance_seconds_sum')} / {rate('nextclick_chunk_clicks_sum')}", "mean")],
        ),
        lines(
            "Waiting for what is withdrawn",
            "percentunit",
            [(f"max(rate(nextclick_items_waited_seconds_total{{{APP}}}{WINDOW}))", "share of the time")],
        ),
    ],
    "Any good?": [
        lines(
            "Hit rate, beside what is simple",
            "percentunit",
            [
                (ratio("nextclick_live_hits_total", JUDGED), "lists"),
                (ratio("nextclick_live_popularity_hits_total", JUDGED), "popular items"),
                (ratio("nextclick_live_association_hits_total", JUDGED), "neighbours of the last item"),
            ],
            description="Of clicks of users who had been shown a list: how many were on it. Within an hour.",
        ),
        lines(
            "MRR, beside what is simple",
            "none",
            [
                (ratio("nextclick_live_reciprocal_ranks_total", JUDGED), "lists"),
                (ratio("nextclick_live_popularity_reciprocal_ranks_total", JUDGED), "popular items"),
                (ratio("nextclick_live_association_reciprocal_ranks_total", JUDGED), "neighbours of the last item"),
            ],
            description="Mean of 1/place of the clicked item.",
        ),
        lines(
            "Hits at 1, 5 and 20",
            "percentunit",
            [
                (
                    f"{rate('nextclick_live_hits_at_total', 'k', '', LONG)} / ignoring (k) group_left "
                    f"{rate(JUDGED, '', '', LONG)}",
                    "{{k}}",
                )
            ],
        ),
        lines(
            "Hit rate of today and of last week",
            "percentunit",
            [
                (f"app:nextclick_live_hits:ratio_rate1d{{{APP}}}", "today"),
                (f"app:nextclick_live_hits:ratio_rate1d{{{APP}}} offset 1w", "a week ago"),
            ],
            description="Over a day; of the network's lists.",
        ),
        lines(
            "Do scores keep what they promise?",
            "none",
            [
                (
                    ratio("nextclick_calibration_hits_total", "nextclick_calibration_expected_total"),
                    "hits / promised hits",
                )
            ],
            description="1: scores are probabilities. Below: they promise too much.",
        ),
        lines(
            "Unknown items and new users",
            "percentunit",
            [
                (f"{rate('nextclick_clicks_on_unknown_items_total', window=LONG)} / {APPLIED}", "unknown items"),
                (f"{rate('nextclick_clicks_of_new_users_total', window=LONG)} / {APPLIED}", "new users"),
            ],
        ),
        lines(
            "What is shown",
            "percentunit",
            [
                (f"max(nextclick_shown_coverage_ratio{{{APP}}})", "items that are in any list"),
                (f"max(nextclick_shown_concentration_ratio{{{APP}}})", "places of the ten most shown items"),
            ],
            description="Of a sample of the last minutes' lists.",
        ),
        lines(
            "New items",
            "percentunit",
            [(ratio("nextclick_live_new_items_hits_total", "nextclick_live_new_items_judged_total"), "hit rate")],
            description="Clicks on items that are younger than the model.",
        ),
        lines(
            "A bundle on trial",
            "percentunit",
            [
                (
                    f"{rate('nextclick_live_variant_hits_total', 'variant', '', LONG)} / "
                    f"{rate('nextclick_live_variant_judged_total', 'variant', '', LONG)}",
                    "{{variant}}",
                )
            ],
            description="Hit rates while one is tried; nextclick models status has the confidence.",
        ),
    ],
    "What does it cost?": [
        lines(
            "CPU for a thousand clicks",
            "s",
            [
                (
                    f'1000 * sum(rate(process_cpu_seconds_total{{{APP}, job="worker"}}{WINDOW})) / '
                    f"{rate('nextclick_clicks_total')}",
                    "workers",
                )
            ],
        ),
        lines("Items of the model", "none", [(f"max(nextclick_bundle_items{{{APP}}})", "items")]),
        lines(
            "Places that explore",
            "percentunit",
            [(ratio("nextclick_live_explored_hits_total", "nextclick_live_explored_places_total"), "clicked")],
            description="Of the places that went to items which were shown little.",
        ),
    ],
}

TRAINING: Rows = {
    "Healthy?": [
        figure("Trainer at work", f"max(nextclick_trainer_has_role{{{APP}}})", "none", Limit(1, 1, high=False)),
        figure(
            "Without a bundle since",
            f"max(nextclick_trainer_refused_in_a_row{{{APP}}})",
            "none",
            Limit(2, 5),
            "Trainings in a row that were refused or failed.",
        ),
        figure("Clicks not logged yet", f"max(nextclick_trainer_lag_records{{{APP}}})", "none", Limit(1e5, 1e6)),
        figure(
            "Click log was written",
            f"max(nextclick_trainer_log_age_seconds{{{APP}}})",
            "s",
            Limit(300, 900),
            "So long ago, with all that had been read.",
        ),
        figure(
            "Click log's store answers",
            f"min(nextclick_trainer_store_reachable{{{APP}}})",
            "none",
            Limit(1, 1, high=False),
        ),
        figure("A training runs", f"max(nextclick_trainer_round_running{{{APP}}})", "none"),
        lines(
            "Trainings by result",
            "none",
            [(f"sum by (result) (increase(nextclick_trainer_rounds_total{{{APP}}}[1d]))", "{{result}}")],
            description="Within a day.",
        ),
        lines(
            "Why bundles were refused",
            "none",
            [(f"sum by (reason) (increase(nextclick_trainer_refusals_total{{{APP}}}[1d]))", "{{reason}}")],
            description="Within a day. A bundle can have several reasons.",
        ),
        names(
            "The last decision", f"max by (app, decision, reason, bundle) (nextclick_trainer_decision_info{{{APP}}})"
        ),
        lines(
            "Clicks logged, rejected, lost",
            "cps",
            [
                (rate("nextclick_trainer_clicks_logged_total"), "logged"),
                (rate("nextclick_trainer_clicks_rejected_total"), "rejected"),
                (rate("nextclick_trainer_clicks_lost_total"), "lost"),
            ],
        ),
    ],
    "Fast?": [
        lines("Time of a training", "s", [(f"max(nextclick_trainer_last_round_seconds{{{APP}}})", "the last one")]),
        lines(
            "Clicks learnt in a second",
            "cps",
            [(ratio("nextclick_trainer_round_clicks_total", "nextclick_trainer_round_seconds_sum", "[1d]"), "mean")],
            description="Over a day.",
        ),
        lines(
            "Clicks not logged yet",
            "none",
            [(f"max(nextclick_trainer_lag_records{{{APP}}})", "records")],
            description="As many as come within `log_flush_s` are normal.",
        ),
    ],
    "Any good?": [
        lines(
            "Recall@20 on the newest clicks",
            "percentunit",
            [(f"max by (model) (nextclick_trainer_recall_at_20_ratio{{{APP}}})", "{{model}}")],
        ),
        lines(
            "MRR@20 on the newest clicks",
            "none",
            [(f"max by (model) (nextclick_trainer_mrr_at_20_ratio{{{APP}}})", "{{model}}")],
        ),
        lines(
            "Lead over neighbour counts",
            "percentunit",
            [(f"max(nextclick_trainer_lead_over_counts_ratio{{{APP}}})", "lead")],
            limit=Limit(0.05, 0, high=False),
        ),
    ],
    "What does it cost?": [
        lines(
            "CPU of trainings",
            "none",
            [(rate("nextclick_trainer_rounds_cpu_seconds_total", window="[1d]"), "cores, over a day")],
        ),
        lines(
            "Most memory of a training",
            "bytes",
            [(f"max(nextclick_trainer_rounds_peak_memory_bytes{{{APP}}})", "peak")],
        ),
        names("Device", f"max by (app, device, name) (nextclick_trainer_device_info{{{APP}}})"),
        lines(
            "Clicks of the last training", "none", [(f"max(nextclick_trainer_last_round_clicks{{{APP}}})", "clicks")]
        ),
        lines("Clicks in the log", "none", [(f"max(nextclick_trainer_log_clicks{{{APP}}})", "clicks")]),
        lines(
            "Log and bundles",
            "bytes",
            [(f'max by (folder) (nextclick_folder_bytes{{{APP}, job="trainer"}})', "{{folder}}")],
        ),
    ],
}


def dashboard(name: str, rows: Rows) -> model.Dashboard:
    """A dashboard with variables for the data source and the application, and links to the others.

    One application at a time: partitions and models of two have the same names, and their sums say nothing of either.
    """
    apps = build.QueryVariable("app").label("Application").datasource(SOURCE)
    apps = apps.query("label_values(nextclick_build_info, app)").sort(model.VariableSort.ALPHABETICAL_ASC)
    apps = apps.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    links = build.DashboardLink("nextclick").type(model.DashboardLinkType.DASHBOARDS).tags(["nextclick"])
    made = build.Dashboard(f"nextclick: {name}").uid(f"nextclick-{name}").tags(["nextclick"]).time("now-1h", "now")
    made = made.refresh("30s").readonly().tooltip(model.DashboardCursorSync.CROSSHAIR)
    made = made.link(links.include_vars(True).keep_time(True).as_dropdown(True))
    made = made.with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    made = made.with_variable(apps)
    for title, panels in rows.items():
        made = made.with_row(build.Row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return made.build()


def documents() -> dict[str, str]:
    """File name to what belongs into it."""
    rows = {"service": SERVICE, "recommendations": RECOMMENDATIONS, "training": TRAINING}
    built = {f"{name}.json": dashboard(name, panels) for name, panels in rows.items()}
    return {name: json.dumps(made, cls=JSONEncoder, indent=2, sort_keys=True) + "\n" for name, made in built.items()}


if __name__ == "__main__":
    for file_name, text in documents().items():
        (FOLDER / file_name).write_text(text)
