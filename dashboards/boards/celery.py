"""Celery: queues, tasks, workers and the beat schedule."""

from dashboards import query
from dashboards.board import Board, Row
from dashboards.once import increase, least, quantile, rate, select
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
from dashboards.query import Query, or_none
from dashboards.style import STATE_COLORS, UP, YES_GOOD, high_is_bad, low_is_bad, never
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
# Drain time of a queue without consumers; the mapping `never` shows it as a word.
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
    """Return the number of waiting messages by queue."""
    return f"sum by (queue_name) ({select('celery_queue_length', IN_QUEUE)})"


def flow(state: str) -> str:
    """Return tasks per second that enter `state`, by queue."""
    return _by_queue_name(f"sum by (queue) ({rate('celery_tasks_total', state, OF_QUEUE)})")


def wait(q: float) -> str:
    """Return a quantile of the time from sending to start, by queue."""
    return _by_queue_name(quantile(q, WAIT, OF_QUEUE, OF_TASK, by="queue"))


def _by_queue_name(expr: str) -> str:
    """Return `expr` with its label `queue` renamed to `queue_name`, as queue lengths have it."""
    return f'max by (queue_name) (label_replace({expr}, "queue_name", "$1", "queue", "(.*)"))'


def _overdue() -> str:
    """Return the seconds that each schedule is overdue; a run that any exporter has seen took place."""
    return least(query.select(OVERDUE))


def drain_seconds() -> str:
    """Return the time to drain each queue at its current rate without new messages; NEVER if none finishes."""
    length = waiting()
    return f"{length} / ({flow(DONE)} > 0) or {NEVER:g} * ({length} > bool 0)"


def _health() -> Row:
    return Row(
        "Is Celery healthy?",
        (
            stat_panel(
                "Workers up",
                "Workers that send heartbeats. With none, no task is processed.",
                f"sum({select('celery_worker_up', ON_HOST)})",
                steps=low_is_bad(critical=1),
            ),
            stat_panel(
                "Longest queue",
                "Messages in the longest selected queue. Orange is CeleryQueueBacklog.",
                f"max({waiting()})",
                steps=high_is_bad(limit("celery_queue_length:max")),
                spark=True,
            ),
            stat_panel(
                "Oldest message",
                "Longest time that a message has waited in a selected queue.",
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
                "Delay of the most overdue schedule. Orange is CeleryScheduledTaskMissed.",
                f"max({_overdue()} and {select(ENABLED)} == 1)",
                unit="s",
                steps=LATE,
            ),
            stat_panel(
                "Events complete",
                "Whether the exporter has received every event since it connected. If not, counters are too low; "
                "queue lengths and workers are still exact.",
                f"min({select('celery_exporter_events_complete')})",
                mappings=YES_GOOD,
            ),
        ),
    )


def _queues() -> Row:
    age = f"max by (queue_name) ({select('celery_queue_oldest_message_age_seconds', IN_QUEUE)})"
    return Row(
        "Queues: are tasks processed?",
        (
            series_panel(
                "Queue length",
                "Messages waiting in each queue, over all priorities. The dashed line is CeleryQueueBacklog.",
                Query(waiting(), "{{queue_name}}"),
                limits=high_is_bad(limit("celery_queue_length:max")),
            ),
            series_panel(
                "Age of the oldest message",
                "Time that the oldest message of each queue has waited, which is what users notice. "
                "The dashed lines are CeleryQueueAgeHigh and CeleryQueueAgeCritical."
                " On RabbitMQ the age is not known.",
                Query(age, "{{queue_name}}"),
                unit="s",
                limits=AGE,
            ),
            series_panel(
                "Wait before start",
                "95th percentile of the time from sending to start, by queue.",
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
                minimum=None,
            ),
            series_panel(
                "Consumers",
                "Workers that consume each queue. Zero with waiting messages is CeleryQueueNoConsumers.",
                Query(
                    f"sum by (queue_name) ({select('celery_queue_consumers', IN_QUEUE)})", "{{queue_name}}"
                ),
                size=THIRD,
            ),
            series_panel(
                "Unacknowledged",
                "Delivered but unacknowledged messages: running or prefetched. "
                "Growth without completions means stuck workers. Not known on RabbitMQ.",
                Query(f"sum by (queue_name) ({select('celery_queue_unacked', IN_QUEUE)})", "{{queue_name}}"),
                size=THIRD,
            ),
            bars_panel(
                "Time to drain",
                "Time to drain each queue at its current rate without new messages. Never: it has messages "
                "and no task finishes.",
                Query(drain_seconds(), "{{queue_name}}"),
                unit="s",
                steps=AGE,
                mappings=never(),
                maximum=limit("celery_queue_age_critical:seconds"),
            ),
            table_panel(
                "Queues",
                "The numbers that distinguish a slow queue from a dead one.",
                {"queue_name": "Queue"},
                {
                    "length": (
                        waiting(),
                        Column("Waiting", steps=high_is_bad(limit("celery_queue_length:max"))),
                    ),
                    "age": (age, Column("Oldest", "s", AGE)),
                    "unacked": (
                        f"sum by (queue_name) ({select('celery_queue_unacked', IN_QUEUE)})",
                        Column("Unacknowledged"),
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
                size=Size(24, 9),
            ),
        ),
    )


def _tasks() -> Row:
    chosen = (OF_QUEUE, OF_TASK)
    failures = f"sum by (task, exception) ({rate('celery_task_failures_total', *chosen)}) > 0"
    slow = quantile(0.95, "celery_task_runtime_seconds", *chosen, by="task")
    return Row(
        "Tasks: which ones fail or are slow?",
        (
            series_panel(
                "Tasks by state",
                "Task events per second. Sent, received and started should move together; failed and retried should stay flat.",
                Query(f"sum by (state) ({rate('celery_tasks_total', *chosen)})", "{{state}}"),
                unit="ops",
                colors=STATE_COLORS,
            ),
            series_panel(
                "Finished by task",
                "Tasks that succeeded or failed per second.",
                Query(f"sum by (task) ({rate('celery_tasks_total', DONE, *chosen)})", "{{task}}"),
                unit="ops",
                stacked=True,
            ),
            series_panel(
                "Failures by exception",
                "Failures per second by task and exception. The series “none” is zero while nothing fails.",
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
                "Distribution of task runtimes over time. Brighter means more tasks.",
                f"sum by (le) ({increase('celery_task_runtime_seconds_bucket', *chosen)})",
            ),
            series_panel(
                "Runtime p95 by task",
                "95th percentile of the runtime by task. The dashed line is CeleryTaskRuntimeHigh.",
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
                "Worker time by task",
                "Worker seconds per second spent on each task.",
                Query(
                    f"topk(10, sum by (task) ({rate('celery_task_runtime_seconds_sum', *chosen)}))",
                    "{{task}}",
                ),
                unit="s",
                size=HALF,
            ),
            table_panel(
                "Tasks",
                "Events per second by state, failure ratio and runtime of each task.",
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
        "Workers: are they up and busy?",
        (
            timeline_panel(
                "Worker up",
                "Whether each worker was up. Red is CeleryWorkerDown.",
                Query(f"min by (hostname) ({select('celery_worker_up', ON_HOST)})", "{{hostname}}"),
                mappings=UP,
            ),
            series_panel(
                "Busy slots",
                "Used share of the pool of each worker. At 100% new tasks wait.",
                Query(
                    f"sum by (hostname) ({select('celery_worker_tasks_active', ON_HOST)})"
                    f" / sum by (hostname) ({select('celery_worker_pool_size', ON_HOST)})",
                    "{{hostname}}",
                ),
                unit="percentunit",
                limits=high_is_bad(limit("celery_slots_used:ratio")),
                maximum=1,
            ),
            series_panel(
                "Accepted tasks",
                "Tasks accepted per second, counted by the workers: exact even if events are lost.",
                Query(
                    f"sum by (hostname) ({rate('celery_worker_processed_total', ON_HOST)})", "{{hostname}}"
                ),
                unit="ops",
                size=THIRD,
            ),
            series_panel(
                "Heartbeat age",
                "Time since the last heartbeat of each worker.",
                Query(beat_age, "{{hostname}}"),
                unit="s",
                size=THIRD,
            ),
            series_panel(
                "Clock skew",
                "Difference between the clocks of each worker and the exporter. It distorts wait times.",
                Query(
                    f"max by (hostname) ({select('celery_worker_clock_skew_seconds', ON_HOST)})",
                    "{{hostname}}",
                ),
                unit="s",
                limits=high_is_bad(limit("celery_clock_skew:seconds")),
                size=THIRD,
                minimum=None,
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
                "Last run, next due time and delay of each schedule.",
                {"schedule": "Schedule", "task": "Task"},
                {
                    "overdue": (
                        f"max by (schedule, task) ({_overdue()})",
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
                "Delay of each schedule. If all rise together, beat is down.",
                Query(f"max by (schedule) ({_overdue()})", "{{schedule}}"),
                unit="s",
                limits=LATE,
                size=THIRD,
            ),
        ),
    )
