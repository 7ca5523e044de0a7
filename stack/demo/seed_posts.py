"""Posts of earlier years, so that the database is large enough for a meaningful backup."""

import psycopg

ROWS = 40_000
# Deterministic texts that compress about as well as prose, not like a repeated line.
INSERT = """
INSERT INTO posts_post (id, owner_id, channel_id, text, status, attempts, last_error, published_at, external_id,
                        claimed_by, scheduled_at, created_at, updated_at)
SELECT gen_random_uuid(), channel.owner_id, channel.id,
       (SELECT string_agg(substr(md5(n::text || word::text), 1, 2 + word %% 9), ' ') FROM generate_series(1, 60) AS word),
       'published', 1, '', moment, 'history-' || n, '', moment, moment, moment
FROM generate_series(1, %(rows)s) AS n
CROSS JOIN LATERAL (SELECT timestamptz '2024-01-01 00:00Z' + n * interval '20 minutes' AS moment) AS times
JOIN (SELECT id, owner_id, row_number() OVER (ORDER BY id) - 1 AS place, count(*) OVER () AS places
      FROM posts_channel) AS channel ON channel.place = n %% channel.places
"""


def fill(url: str, rows: int = ROWS) -> int:
    """Insert published posts of earlier years, spread over all channels; returns the number of rows."""
    with psycopg.connect(url) as connection:
        return connection.execute(INSERT, {"rows": rows}).rowcount
