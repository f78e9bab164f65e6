"""The peer's SQLite event storage alone, driven by lines on standard input; runs in the peer's own environment.

    python bench/thingsboard_store.py FOLDER MESSAGES

FOLDER: where its database lies; MESSAGES: a file of one message a line. Commands, each answered with one line,
seconds and CPU seconds: `fill N` (rows put there directly: a backlog), `append N` (its `put`, until all are committed),
`drain N` (its packs, each read and then confirmed, until N rows are gone), `synchronous MODE` (FULL or, as it ships,
NORMAL), `quit`. Imports nothing of ours.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer commands until `quit` or the end of input."""
    folder, messages = Path(sys.argv[1]), Path(sys.argv[2]).read_text("utf-8").splitlines()
    logger: Any = importlib.import_module("thingsboard_gateway.tb_utility.tb_logger").TbLogger("storage")
    logger.setLevel(logging.WARNING)
    storage_class: Any = importlib.import_module(
        "thingsboard_gateway.storage.sqlite.sqlite_event_storage"
    ).SQLiteEventStorage
    # As it ships it begins a new file at 1 GB; one file of any size is what the figure speaks of.
    storage = storage_class({"data_file_path": f"{folder}/", "size_limit": 16_000}, logger, threading.Event())
    watcher = sqlite3.connect(folder / "data.db", timeout=30)
    endless = itertools.cycle(messages)

    def written() -> int:
        return int(watcher.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()[0])

    def oldest() -> int:
        return int(watcher.execute("SELECT coalesce(min(id), 1 << 62) FROM messages").fetchone()[0])

    print("ready", flush=True)
    for line in sys.stdin:
        what, _, number = line.strip().partition(" ")
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        if what == "quit":
            break
        if what == "synchronous":
            connector = storage._SQLiteEventStorage__write_database.db
            with connector.lock:
                connector.connection.execute(f"PRAGMA synchronous={number}")
            number = "0"
        count = int(number)
        if what == "fill":
            now_ms = int(time.time() * 1000)
            for at in range(0, count, 100_000):
                rows = ((now_ms, next(endless)) for _ in range(min(100_000, count - at)))
                watcher.executemany("INSERT INTO messages (timestamp, message) VALUES (?, ?)", rows)
                watcher.commit()
        elif what == "append":
            goal = written() + count
            for _ in range(count):
                storage.put(next(endless))
            while written() < goal:
                time.sleep(0.001)
        elif what == "drain":
            goal = oldest() + count
            while oldest() < goal:
                storage.get_event_pack()
                storage.event_pack_processing_done()
        print(f"{time.perf_counter() - started_s:.6f} {time.process_time() - started_cpu_s:.6f}", flush=True)
    storage.stop()


if __name__ == "__main__":
    main()
