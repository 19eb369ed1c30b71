"""Runs the HTTP gateway (Rust) that the tensorzero wheel carries; writes its ephemeral port to a file."""

import sys
import time
from urllib.parse import urlparse

from tensorzero import _start_http_gateway

gw = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
with open(sys.argv[2], "w") as f:
    f.write(str(urlparse(gw.base_url).port))
print(gw.base_url, flush=True)
while True:
    time.sleep(3600)
