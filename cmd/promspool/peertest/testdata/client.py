"""Calls the function of prometheus_client that the second argument names."""

import sys

from prometheus_client import (CollectorRegistry, Counter, Gauge, Histogram,
                               delete_from_gateway, instance_ip_grouping_key,
                               push_to_gateway, pushadd_to_gateway)

gateway, function = sys.argv[1:]
registry = CollectorRegistry()

if function == 'push':
    Gauge('last_success', 'Last time', registry=registry).set(42)
    Histogram('duration_seconds', 'How long', registry=registry).observe(2)
    Counter('done', 'How many', ['kind'], registry=registry).labels('x/y').inc(3)
    push_to_gateway(gateway, job='batch_A', registry=registry)
elif function == 'pushadd':
    Gauge('added', 'One more', registry=registry).set(1)
    pushadd_to_gateway(gateway, job='batch_A', registry=registry)
elif function == 'delete':
    delete_from_gateway(gateway, job='batch_A')
elif function == 'instance':
    Gauge('by_address', 'Has an instance', registry=registry).set(1)
    push_to_gateway(gateway, job='batch/B', registry=registry,
                    grouping_key=instance_ip_grouping_key())
elif function == 'delete-instance':
    delete_from_gateway(gateway, job='batch/B',
                        grouping_key=instance_ip_grouping_key())
else:
    sys.exit('no such function: ' + function)
