"""The ledger for as long as it takes: deaths by the dozen, a full disk under load, ten million records.

`POLYMUX_KILLS` and `POLYMUX_RECORDS` set other numbers.
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from polymux.store.database import Database
from polymux.store.lines import DAY, HOUR
from polymux.store.sums import BY, END
from polymux.store.usage import call, latest, records, usage
from support.gateway import Gateway
from support.ledger import ADMIN, PRICE, Clients, check, family, journalled, kill, ship
from torture.test_soak import FUNCTIONS, mock_provider

KILLS: Final = int(os.environ.get("POLYMUX_KILLS", "25"))
RECORDS: Final = int(os.environ.get("POLYMUX_RECORDS", "10000000"))
QUICK: Final = 1.0  # seconds for any query
START: Final = 1_790_000_000 // DAY * DAY
SPAN: Final = 90 * DAY
KEY: Final = "sk-torture-0123456789abcdef"


def start(url: str, data: Path, *arguments: str) -> Gateway:
    config = f"""
        [auth]
        keys = ["{KEY}"]
        admin_key = "{ADMIN}"
        [limits]
        rpm = 0
        [server]
        log = "off"
        [providers.openai]
        preset = "openai-compatible"
        base_url = "{url}/v1"
        api_key = "sk-mock"
        [providers.claude]
        preset = "anthropic-compatible"
        base_url = "{url}/v1"
        api_key = "sk-mock"
        [models.smart]
        deployments = [{{ provider = "openai", model = "mock" }}]
        price = {PRICE}
        [models.wise]
        deployments = [{{ provider = "claude", model = "mock" }}]
        price = {PRICE}
    """
    given = ("--functions", "functions.py", *arguments)
    return Gateway(config, arguments=given, files={"functions.py": FUNCTIONS}, data=data, key=KEY)


MODELS: Final = ("smart", "wise", "echo", "count", "chain")


@pytest.mark.parametrize("workers", [1, 2])
def test_deaths_under_load(tmp_path: Path, workers: int) -> None:
    chance, seen, data = random.Random(workers), [], tmp_path / "data"
    with mock_provider() as url:
        for number in range(KILLS):
            with start(url, data, "--workers", str(workers)) as gateway:
                clients = Clients(gateway, MODELS, 12)
                clients.until(chance.choice((1, 10, 100, 500)))
                if chance.random() < 0.2:
                    gateway.stop()
                else:
                    time.sleep(chance.random() * 0.6)  # at any moment of a round of the shipper
                    kill(gateway)
                seen += clients.join()
            print(f"death {number + 1}: {len(seen)} answers seen", flush=True)
    ship(data)
    check(data, seen)


def test_a_disk_that_is_full_now_and_then(tmp_path: Path) -> None:
    chance, data = random.Random(1), tmp_path / "data"
    with mock_provider() as url, start(url, data, "--workers", "2") as gateway:
        clients = Clients(gateway, MODELS, 12)
        for number in range(1, 21):
            clients.until(number * 200)
            largest = max(path.stat().st_size for path in (data / "journal").iterdir())
            limit = resource.RLIM_INFINITY if number % 2 == 0 else largest + chance.randrange(2000)
            for pid in family(gateway):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        clients.until(5000)
        gateway.stop()
        seen = clients.join()
        assert gateway.said("usage records cannot be written")
        assert "Traceback" not in gateway.log()
    assert set(seen) <= set(journalled(data))
    ship(data)
    check(data, seen)


# ---- many records ------------------------------------------------------------------------------------------------

FILL: Final = f"""
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {RECORDS})
INSERT INTO records (id, at, key_id, key_name, tenant, surface, model, provider, upstream_model, status, error_code,
    stream, input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, usage_source, cost,
    attempts, cache, duration_ms, first_token_ms, overhead_ms, client_request_id, parent_id, tries, price)
SELECT 'req_' || printf('%024x', i * 2654435761 % 1073741824 * 4294967296 + i), {START} + i * {SPAN}.0 / {RECORDS},
    'key_' || (i % 50), 'key ' || (i % 50), 'tenant ' || (i % 5), 'chat', 'model-' || (i / 7 % 20),
    'provider-' || (i / 7 % 4),
    'upstream', iif(i % 100, 200, 502), iif(i % 100, NULL, 'upstream_unavailable'), i % 2, i % 5000, i % 700,
    i % 300, 0, i % 100, 'upstream', iif(i % 97, i % 1000003 * 1000, NULL), 1, 'off', i % 100000 / 1000.0, NULL, 0.1,
    '', iif(i % 1000 = 1, 'req_parent', ''), '[]', 'input=2.50 output=10.00 from=catalog:2026-07-02'
FROM n
"""
SUMS: Final = """COUNT(*), SUM(error_code IS NOT NULL), SUM(input_tokens), SUM(output_tokens), SUM(cached_tokens),
    SUM(cache_write_tokens), SUM(reasoning_tokens), SUM(COALESCE(cost, 0)), SUM(cost IS NULL),
    SUM(CAST(ROUND(duration_ms * 1000) AS INTEGER)) FROM records"""
WHO: Final = "key_id, key_name, tenant, model, provider"
AGGREGATES: Final = tuple(
    f"INSERT INTO {table} SELECT CAST(at AS INTEGER) / {span} * {span}, {who} {SUMS} GROUP BY {group}"
    for table, span, who, group in (
        ("hours", HOUR, f"{WHO},", "1, 2, 3, 4, 5, 6"),
        ("days", DAY, f"{WHO},", "1, 2, 3, 4, 5, 6"),
        ("totals", HOUR, "", "1"),
    )
)


def test_ten_million_records_are_asked_in_a_moment(tmp_path: Path) -> None:
    with TemporaryDirectory(dir=tmp_path) as folder, closing(Database("sqlite", Path(folder))) as database:
        with database.begin() as connection:
            connection.exec_driver_sql(FILL)
            for aggregate in AGGREGATES:
                connection.exec_driver_sql(aggregate)
        with database.connect() as connection:
            (hours,) = connection.exec_driver_sql("SELECT COUNT(*) FROM hours").one()
            (middle,) = connection.exec_driver_sql(f"SELECT id FROM records WHERE seq = {RECORDS // 2}").one()
        print(f"{RECORDS} records, {hours} hours of a key and a model, {database.path.stat().st_size / 2**30:.1f} GiB")
        odd = (START + 3 * DAY + 1234.5, START + SPAN - DAY + 4321.25)
        works: dict[str, Callable[[Any], Any]] = {
            f"sums by {by or 'nothing'}, {name}": lambda c, by=by, span=span: usage(c, by, *span)
            for by in BY
            for name, span in (("all", (0, END)), ("an odd span", odd), ("a week", (odd[1] - 7 * DAY, odd[1])))
        }
        works |= {
            "the first records": lambda c: records(c, 1000),
            "records in the middle": lambda c: records(c, 1000, middle),
            "the last records": lambda c: latest(c, 1000),
            "a call": lambda c: call(c, middle),
        }
        slow = {}
        for name, work in works.items():
            with database.connect() as connection:
                begun = time.perf_counter()
                work(connection)
                took = time.perf_counter() - begun
            print(f"{took:8.3f} s  {name}", flush=True)
            if took >= QUICK:
                slow[name] = took
        assert not slow
        with database.connect() as connection:
            total = usage(connection).total
            assert total.requests == RECORDS
            exact = connection.exec_driver_sql(
                "SELECT COUNT(*), SUM(input_tokens) FROM records WHERE at >= ? AND at < ?", odd
            ).one()
            sums = usage(connection, "", *odd).total
            assert (sums.requests, sums.input_tokens) == tuple(exact)
