"""The exporter against a real broker and real workers."""

import requests
from exporterkit import send
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics


def test_tasks_workers_and_queues_of_a_real_worker(broker, start, worker):
    running = start(broker, inspect_interval=1)
    worker(broker)
    running.until(lambda s: s.get("celery_worker_up", hostname="worker-a@host-1") == 1)
    send(broker, "shop.add", "shop.add", "shop.mail", "shop.fail", "shop.retry", "shop.reject")
    done = running.until(
        lambda s: (
            s.get("celery_tasks_total", state="failed") == 3
            and s.get("celery_tasks_total", state="succeeded") == 3
        )
    )
    assert done.get("celery_tasks_total", task="shop.add", queue="default", state="succeeded") == 2
    assert (
        done.get(
            "celery_task_succeeded_total", name="shop.mail", queue_name="mail", hostname="worker-a@host-1"
        )
        == 1
    )
    assert done.get("celery_task_failed_total", name="shop.fail", exception="ValueError") == 1
    assert done.get("celery_tasks_total", task="shop.retry", state="retried") == 1
    assert done.get("celery_tasks_total", task="shop.reject", state="rejected") == 1
    assert done.get("celery_task_runtime_count", name="shop.mail") == 1
    assert done.get("celery_task_runtime_seconds_bucket", task="shop.mail", le="0.05") == 0
    assert done.get("celery_task_queue_wait_seconds_count", task="shop.add") == 2
    assert done.get("celery_exporter_broker_up") == 1
    assert done.get("celery_exporter_events_complete") == 1
    asked = running.until(lambda s: s.get("celery_active_consumer_count", queue_name="mail") == 1)
    assert asked.get("celery_worker_pool_size", hostname="worker-a@host-1") == 2
    assert asked.get("celery_active_process_count", queue_name="default") == 2
    counted = running.until(lambda s: s.get("celery_worker_processed_total") == 7)
    assert counted.get("celery_exporter_events_lost_total") == 0


def test_queue_lengths_over_all_priority_lists(broker, start):
    running = start(broker)
    for priority in (0, 3, 6, 9):
        send(broker, "shop.add", priority=priority)
    send(broker, "shop.mail")
    scraped = running.until(lambda s: s.get("celery_queue_length") == 5)
    assert scraped.get("celery_queue_length", queue_name="default") == 4
    assert scraped.get("celery_queue_length", queue_name="mail") == 1
    assert scraped.get("celery_queue_oldest_message_age_seconds", queue_name="default") > 0
    assert scraped.get("celery_queue_unacked", queue_name="default") == 0


def test_a_killed_worker_goes_down_while_its_twin_lives(broker, start, worker):
    running = start(broker, worker_timeout=4)
    first = worker(broker, "a@host-1")
    worker(broker, "b@host-1")
    running.until(lambda s: s.get("celery_worker_up") == 2)
    first.kill()
    gone = running.until(lambda s: s.get("celery_worker_up", hostname="a@host-1") == 0, seconds=10)
    assert gone.get("celery_worker_up", hostname="b@host-1") == 1


def test_forms_of_metrics_and_health(broker, start):
    running = start(broker)
    send(broker, "shop.add")
    running.until(lambda s: s.get("celery_task_sent_total") and s.get("celery_queue_length"))
    answer = requests.get(
        f"{running.url}/metrics", headers={"Accept": "application/openmetrics-text"}, timeout=5
    )
    assert answer.headers["Content-Encoding"] == "gzip"
    names = {family.name for family in openmetrics(answer.text)}
    assert {"celery_tasks", "celery_queue_length"} <= names
    for path in ("/healthz", "/readyz", "/"):
        assert requests.get(f"{running.url}{path}", timeout=5).status_code == 200
