"""Selects the lines of a lake that were changed after a moment, by their text and with DuckDB. Nothing is validated or compared."""

import pathlib
import sys

import duckdb

lake, out, since = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
csv = "header false, quote '', escape '', delimiter '\x01'"
for source in sorted(lake.rglob("*.ndjson")):
    target = out / source.relative_to(lake)
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = f"read_csv('{source}', columns={{'line': 'VARCHAR'}}, auto_detect=false, header=false, quote='', escape='', delim='\x01')"
    duckdb.sql(
        f"""COPY (SELECT line FROM {lines} WHERE left(split_part(line, '"lastUpdated":"', 2), {len(since)}) > '{since}')
        TO '{target}' (FORMAT csv, {csv})"""
    )
