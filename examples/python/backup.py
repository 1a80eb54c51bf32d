#!/usr/bin/python3
"""Runs a backup and pushes its result, with the official client.

    backup.py COMMAND [ARGUMENT...]

On Debian the client is python3-prometheus-client.
"""

import os
import subprocess
import sys
import time

from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway

# Not the default registry, which also has metrics of this process.
registry = CollectorRegistry()
duration = Gauge('backup_duration_seconds', 'How long the last run took.', registry=registry)
status = Gauge('backup_exit_status', 'Exit status of the last run.', registry=registry)

start = time.monotonic()
result = subprocess.run(sys.argv[1:])
duration.set(time.monotonic() - start)
status.set(result.returncode)
if result.returncode == 0:
    # pushadd (a POST) keeps metrics that it does not have, so after a failed run the
    # time of the last success remains.
    success = Gauge('backup_last_success_timestamp_seconds', 'When the last successful run ended.', registry=registry)
    success.set_to_current_time()

try:
    pushadd_to_gateway(os.environ.get('PROMSPOOL', 'localhost:9091'), job='backup', registry=registry, timeout=10)
except OSError as e: # independent of the result of the backup
    print(f'backup.py: the push failed: {e}', file=sys.stderr)
sys.exit(result.returncode)
