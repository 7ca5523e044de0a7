"""Celery: do tasks flow, and if not, which queue, task, worker or schedule is it?"""

from dashboards.board import Board, Row
from dashboards.panels import (
    HALF,
    THIRD,
    Column,
    Size,
    bars_panel,
    heat_panel,
    series_panel,
    stat_panel,
    table_panel,
    timeline_panel,
)
from dashboards.query import Query, increase, or_none, quantile, rate, select
from dashboards.style import UP, YES_GOOD, high_is_bad, low_is_bad, never
from dashboards.thresholds import limit
from dashboards.variables import HOST, QUEUE, TASK

IN_QUEUE = 'queue_name=~"$queue"'
OF_QUEUE = 'queue=~"$queue"'
OF_TASK = 'task=~"$task"'
ON_HOST = 'hostname=~"$host"'
STATES = ("sent", "received", "started", "succeeded", "failed", "retried")
SENT = 'state="sent"'
DONE = 'state=~"succeeded|failed"'
FAILED = 'state="failed"'
ENABLED = "celery_beat_schedule_enabled"
OVERDUE = "celery_beat_schedule_overdue_seconds"
WAIT = "celery_task_queue_wait_seconds"
# How long a queue needs that nobody reads: what `never` puts into words.
NEVER = 1e9

AGE = high_is_bad(limit("celery_queue_age:seconds"), limit("celery_queue_age_critical:seconds"))
LATE = high_is_bad(limit("celery_schedule_overdue:seconds"))
LONG = high_is_bad(limit("celery_runtime_p95:seconds"))
RATIO = high_is_bad(limit("celery_failure_ratio:max"), limit("celery_failure_ratio_critical:max"))


def board() -> Board:
    """Return the Celery dashboard."""
    return Board(
        uid="posthub-celery",
        title="PostHub / Celery",
        description="Queues, tasks, workers and the beat schedule of the Celery app.",
        jobs="celery",
        choices=(QUEUE, TASK, HOST),
        tags=("celery",),
        rows=(_health(), _queues(), _tasks(), _workers(), _beat()),
    )


def failure_ratio(by: str = "") -> str:
    """Return failed tasks per finished task; 0 while none finished."""
    group = f" by ({by})" if by else ""
    failed = f"sum{group} ({rate('celery_tasks_total', FAILED, OF_QUEUE, OF_TASK)})"
    done = f"sum{group} ({rate('celery_tasks_total', DONE, OF_QUEUE, OF_TASK)})"
    return f"{failed} / clamp_min({done}, 1e-9)"


def waiting() -> str:
    """Return how many messages wait in each queue."""
    return f"sum by (queue_name) ({select('celery_queue_length', IN_QUEUE)})"


def flow(state: str) -> str:
    """Return tasks per second and queue in `state`."""
    return _by_queue_name(f"sum by (queue) ({rate('celery_tasks_total', state, OF_QUEUE)})")


def wait(q: float) -> str:
    """Return a quantile of the time from sending to start, per queue."""
    return _by_queue_name(quantile(q, WAIT, OF_QUEUE, OF_TASK, by="queue"))


def _by_queue_name(expr: str) -> str:
    """Return `expr`, which is by queue, under the label that queue lengths have."""
    return f'max by (queue_name) (label_replace({expr}, "queue_name", "$1", "queue", "(.*)"))'


def drain_seconds() -> str:
    """Return how long each queue would need at its present pace, were nothing added; NEVER when it stands."""
    length = waiting()
    return f"{length} / ({flow(DONE)} > 0) or {NEVER:g} * ({length} > bool 0)"


def _health() -> Row:
    return Row(
        "Is Celery well?",
        (
            stat_panel(
                "Workers up",
                "Workers whose heartbeats arrive. None: nothing is processed at all.",
                f"sum({select('celery_worker_up', ON_HOST)})",
                steps=low_is_bad(critical=1),
            ),
            stat_panel(
                "Longest queue",
                "Messages in the longest of the chosen queues. Orange is CeleryQueueBacklog.",
                f"max({waiting()})",
                steps=high_is_bad(limit("celery_queue_length:max")),
                spark=True,
            ),
            stat_panel(
                "Oldest message",
                "How long the message at the head of the slowest queue has waited.",
                f"max({select('celery_queue_oldest_message_age_seconds', IN_QUEUE)})",
                unit="s",
                steps=AGE,
                spark=True,
            ),
            stat_panel(
                "Failed tasks",
                "Share of finished tasks that failed.",
                failure_ratio(),
                unit="percentunit",
                steps=RATIO,
                spark=True,
            ),
            stat_panel(
                "Most overdue",
                "How late the latest schedule is. The colour changes where CeleryScheduledTaskMissed fires.",
                f"max({select(OVERDUE)} and {select(ENABLED)} == 1)",
                unit="s",
                steps=LATE,
            ),
            stat_panel(
                "Events complete",
                "Whether the exporter has seen every event since it connected. No: counters are too low, "
                "queue lengths and workers are still exact.",
                f"min({select('celery_exporter_events_complete')})",
                mappings=YES_GOOD,
            ),
        ),
    )


def _queues() -> Row:
    age = f"max by (queue_name) ({select('celery_queue_oldest_message_age_seconds', IN_QUEUE)})"
    return Row(
        "Queues: does work flow?",
        (
            series_panel(
                "Queue length",
                "Messages waiting per queue, every priority counted. The dashed line is CeleryQueueBacklog.",
                Query(waiting(), "{{queue_name}}"),
                limits=high_is_bad(limit("celery_queue_length:max")),
            ),
            series_panel(
                "Age of the oldest message",
                "How long the head of each queue has waited: what a user feels, whatever the length is. "
                "Dashed: CeleryQueueAgeHigh and CeleryQueueAgeCritical.",
                Query(age, "{{queue_name}}"),
                unit="s",
                limits=AGE,
            ),
            series_panel(
                "Wait before start",
                "Time from sending to start that one task in twenty exceeds, per queue.",
                Query(wait(0.95), "{{queue_name}}"),
                unit="s",
            ),
            series_panel(
                "In and out",
                "Tasks per second sent to each queue (above zero) and finished from it (below zero). "
                "More above than below: the queue grows.",
                Query(flow(SENT), "{{queue_name}} in"),
                Query(f"-{flow(DONE)}", "{{queue_name}} out"),
                unit="ops",
                least=None,
            ),
            series_panel(
                "Consumers",
                "Workers that read each queue. Zero with messages waiting is CeleryQueueNoConsumers.",
                Query(
                    f"sum by (queue_name) ({select('celery_queue_consumers', IN_QUEUE)})", "{{queue_name}}"
                ),
                size=THIRD,
            ),
            series_panel(
                "Delivered, not acknowledged",
                "Messages that workers hold: running or prefetched. Growth without completion means stuck workers.",
                Query(f"sum by (queue_name) ({select('celery_queue_unacked', IN_QUEUE)})", "{{queue_name}}"),
                size=THIRD,
            ),
            bars_panel(
                "Time to drain",
                "How long each queue would need at its present pace if nothing were added. Never: it has messages "
                "and none is finished.",
                Query(drain_seconds(), "{{queue_name}}"),
                unit="s",
                steps=AGE,
                mappings=never(),
                most=limit("celery_queue_age_critical:seconds"),
            ),
            table_panel(
                "Queues at a glance",
                "Every queue with the numbers that tell a slow queue from a dead one.",
                {"queue_name": "Queue"},
                {
                    "length": (
                        waiting(),
                        Column("Waiting", steps=high_is_bad(limit("celery_queue_length:max"))),
                    ),
                    "age": (age, Column("Oldest", "s", AGE)),
                    "unacked": (
                        f"sum by (queue_name) ({select('celery_queue_unacked', IN_QUEUE)})",
                        Column("Held"),
                    ),
                    "consumers": (
                        f"sum by (queue_name) ({select('celery_queue_consumers', IN_QUEUE)})",
                        Column("Consumers", steps=low_is_bad(critical=1)),
                    ),
                    "in": (flow(SENT), Column("In", "ops")),
                    "out": (flow(DONE), Column("Out", "ops")),
                    **{
                        f"p{q * 100:g}": (wait(q), Column(f"Wait p{q * 100:g}", "s"))
                        for q in (0.5, 0.95, 0.99)
                    },
                },
                sort="Waiting",
                size=Size(24, 7),
            ),
        ),
    )


def _tasks() -> Row:
    chosen = (OF_QUEUE, OF_TASK)
    failures = f"sum by (task, exception) ({rate('celery_task_failures_total', *chosen)}) > 0"
    slow = quantile(0.95, "celery_task_runtime_seconds", *chosen, by="task")
    return Row(
        "Tasks: which one misbehaves?",
        (
            series_panel(
                "Tasks by state",
                "Events per second: sent, received and started should move together, failed and retried stay flat.",
                Query(f"sum by (state) ({rate('celery_tasks_total', *chosen)})", "{{state}}"),
                unit="ops",
            ),
            series_panel(
                "Finished by task",
                "Tasks finished per second, well or not.",
                Query(f"sum by (task) ({rate('celery_tasks_total', DONE, *chosen)})", "{{task}}"),
                unit="ops",
                stacked=True,
            ),
            series_panel(
                "Failures by exception",
                "What tasks die of. The line named none means that nothing failed.",
                Query(
                    or_none(failures, "exception", rate("celery_tasks_total", *chosen)),
                    "{{task}} {{exception}}",
                ),
                unit="ops",
            ),
            series_panel(
                "Failure ratio by task",
                "Share of a task's runs that failed. The dashed line is CeleryTaskFailureRatioHigh.",
                Query(failure_ratio("task"), "{{task}}"),
                unit="percentunit",
                limits=RATIO,
            ),
            heat_panel(
                "Runtime",
                "How long tasks run: each column is a moment, brighter means more tasks of that duration.",
                f"sum by (le) ({increase('celery_task_runtime_seconds_bucket', *chosen)})",
            ),
            series_panel(
                "Runtime p95 by task",
                "The runtime that one run in twenty exceeds. The dashed line is CeleryTaskRuntimeHigh.",
                Query(slow, "{{task}}"),
                unit="s",
                limits=LONG,
            ),
            bars_panel(
                "Slowest tasks",
                "The ten tasks with the longest mean runtime.",
                Query(_mean_runtime(chosen), "{{task}}"),
                unit="s",
                steps=LONG,
                size=HALF,
            ),
            bars_panel(
                "Where worker time goes",
                "Worker seconds spent per second on each task: what to make faster first.",
                Query(
                    f"topk(10, sum by (task) ({rate('celery_task_runtime_seconds_sum', *chosen)}))",
                    "{{task}}",
                ),
                unit="s",
                size=HALF,
            ),
            table_panel(
                "Tasks at a glance",
                "Every task: how often a second it enters each state, how much of it fails, and how long it runs.",
                {"task": "Task"},
                {
                    **{state: (_entering(state), Column(state.title(), "ops")) for state in STATES},
                    "ratio": (failure_ratio("task"), Column("Failure ratio", "percentunit", RATIO)),
                    "p95": (slow, Column("Runtime p95", "s", LONG)),
                },
                sort="Succeeded",
                size=Size(24, 8),
            ),
        ),
    )


def _entering(state: str) -> str:
    matcher = f'state="{state}"'
    return f"sum by (task) ({rate('celery_tasks_total', matcher, OF_QUEUE, OF_TASK)})"


def _mean_runtime(chosen: tuple[str, ...]) -> str:
    spent = f"sum by (task) ({rate('celery_task_runtime_seconds_sum', *chosen)})"
    runs = f"sum by (task) ({rate('celery_task_runtime_seconds_count', *chosen)})"
    return f"topk(10, {spent} / clamp_min({runs}, 1e-9))"


def _workers() -> Row:
    beat_age = (
        f"time() - max by (hostname) ({select('celery_worker_last_heartbeat_timestamp_seconds', ON_HOST)})"
    )
    return Row(
        "Workers: who does the work?",
        (
            timeline_panel(
                "Worker up",
                "When each worker was there. Red is CeleryWorkerDown.",
                Query(f"min by (hostname) ({select('celery_worker_up', ON_HOST)})", "{{hostname}}"),
                mappings=UP,
            ),
            series_panel(
                "Busy slots",
                "Tasks running on each worker as a share of its pool. At 100 % new tasks wait.",
                Query(
                    f"sum by (hostname) ({select('celery_worker_tasks_active', ON_HOST)})"
                    f" / sum by (hostname) ({select('celery_worker_pool_size', ON_HOST)})",
                    "{{hostname}}",
                ),
                unit="percentunit",
                limits=high_is_bad(limit("celery_slots_used:ratio")),
                most=1,
            ),
            series_panel(
                "Accepted tasks",
                "Tasks accepted per second, as the workers themselves count: exact even when events were lost.",
                Query(
                    f"sum by (hostname) ({rate('celery_worker_processed_total', ON_HOST)})", "{{hostname}}"
                ),
                unit="ops",
                size=THIRD,
            ),
            series_panel(
                "Heartbeat age",
                "Time since each worker last reported.",
                Query(beat_age, "{{hostname}}"),
                unit="s",
                size=THIRD,
            ),
            series_panel(
                "Clock skew",
                "How far each worker's clock is from the exporter's: skew bends every wait time.",
                Query(
                    f"max by (hostname) ({select('celery_worker_clock_skew_seconds', ON_HOST)})",
                    "{{hostname}}",
                ),
                unit="s",
                limits=high_is_bad(limit("celery_clock_skew:seconds")),
                size=THIRD,
                least=None,
            ),
        ),
    )


def _beat() -> Row:
    def by_schedule(metric: str) -> str:
        return f"max by (schedule, task) ({select(metric)})"

    last = f"time() - {by_schedule('celery_beat_schedule_last_run_timestamp_seconds')}"
    due = f"{by_schedule('celery_beat_schedule_next_due_timestamp_seconds')} - time()"
    return Row(
        "Beat: do schedules run?",
        (
            table_panel(
                "Schedules",
                "Every schedule: when it last ran, when it is due, and by how much it is late.",
                {"schedule": "Schedule", "task": "Task"},
                {
                    "overdue": (
                        by_schedule(OVERDUE),
                        Column("Overdue", "s", LATE),
                    ),
                    "last": (last, Column("Last run ago", "s")),
                    "due": (due, Column("Due in", "s")),
                    "enabled": (
                        by_schedule(ENABLED),
                        Column("Enabled", mappings=YES_GOOD),
                    ),
                },
                sort="Overdue",
                size=Size(16, 8),
            ),
            series_panel(
                "Overdue schedules",
                "How late each schedule is. All of them rising together means that beat is dead.",
                Query(f"max by (schedule) ({select(OVERDUE)})", "{{schedule}}"),
                unit="s",
                limits=LATE,
                size=THIRD,
            ),
        ),
    )
