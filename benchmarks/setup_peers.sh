#!/bin/sh
# Installs the peers under $BENCH_PEERS (default: <tmp>/peers). Needed: python3 with venv; npm and node >= 18 for portkey.
# These versions are known to work; drop a pin to measure a newer release.
set -eu
PEERS=${BENCH_PEERS:-${TMPDIR:-/tmp}/peers}
mkdir -p "$PEERS"; cd "$PEERS"

venv() { [ -d "$1" ] || python3 -m venv "$1"; d=$1; shift; "$d/bin/pip" install -q "$@"; }
venv litellm 'litellm[proxy]==1.106.2'
venv tensorzero 'tensorzero==2026.6.0'
venv anyllm2 'any-llm-sdk[gateway]==1.8.6'        # 1.16 and 1.40 no longer carry the gateway
venv base fastapi httpx 'uvicorn[standard]' flask requests gunicorn aiohttp orjson uvloop

# Portkey: with the versions npm picks today every stream answers 500 (TypeError: immutable, its issue 1389);
# these two overrides are the newest pair found to work.
mkdir -p portkey; cd portkey
cat > package.json <<'JSON'
{"name": "portkey-bench", "private": true, "dependencies": {"@portkey-ai/gateway": "1.15.2"},
 "overrides": {"@hono/node-server": "1.13.8", "hono": "4.9.7"}}
JSON
npm install --no-fund --no-audit; cd ..
