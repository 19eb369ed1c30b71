"""Starts any-llm-gateway with one known API key already in its (SQLite) database."""

import sys

from any_llm.gateway.auth.models import hash_key
from any_llm.gateway.cli import cli
from any_llm.gateway.config import load_config
from any_llm.gateway.db import APIKey, User, get_db, init_db
from sqlalchemy import select

config, port, key = sys.argv[1:4]
init_db(load_config(config).database_url)
db = next(get_db())
if not db.scalars(select(APIKey)).first():
    db.add(User(user_id="bench", alias="bench"))
    db.flush()
    db.add(APIKey(id="bench", key_hash=hash_key(key), key_name="bench", user_id="bench", metadata_={}))
    db.commit()
sys.argv = [
    "any-llm-gateway",
    "serve",
    "-c",
    config,
    "--host",
    "127.0.0.1",
    "--port",
    port,
    "--log-level",
    "40",
    "--workers",
    "1",
]
cli()
