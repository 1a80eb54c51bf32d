"""Calls all functions of prometheus_client that push, and prints how they end."""

import sys
import urllib.error

from prometheus_client import (CollectorRegistry, Counter, Enum, Gauge,
                               Histogram, Info, Summary, delete_from_gateway,
                               instance_ip_grouping_key, push_to_gateway,
                               pushadd_to_gateway)
from prometheus_client import exposition

gateway, handler_name = sys.argv[1:]
plain_handler = getattr(exposition, handler_name)


def handler(*args, **kwargs):
    if handler_name == 'basic_auth_handler':
        kwargs.update(username='ali', password='sesame')
    return plain_handler(*args, **kwargs)


def call(what, function, *args, **kwargs):
    try:
        function(gateway, *args, **{'handler': handler, **kwargs})
        print(f'{what}: done')
    except urllib.error.HTTPError as e:
        print(f'{what}: {e.code}')


def registry(*metrics):
    r = CollectorRegistry()
    for metric in metrics:
        r.register(metric)
    return r


def gauge(name, value):
    g = Gauge(name, 'Help of ' + name, registry=None)
    g.set(value)
    return g


every = CollectorRegistry()
Gauge('g', 'Has a \\ and\na new line', ['path'], registry=every).labels('C:\\"x"\n').set(float('nan'))
Counter('c', 'How many', ['kind'], registry=every).labels('é').inc(3)
Histogram('h_seconds', 'How long', registry=every).observe(2)
Summary('s_bytes', 'How large', registry=every).observe(1e6)
Info('i', 'What', registry=every).info({'version': '1.2', 'empty': ''})
Enum('e', 'Which', states=['on', 'off'], registry=every).state('off')
# The times at which metrics were created are not the same twice.
generate = exposition.generate_latest
exposition.generate_latest = lambda r: b''.join(
    line for line in generate(r).splitlines(keepends=True) if b'_created{' not in line and b'_created ' not in line)

call('every type', push_to_gateway, job='every', registry=every)
call('push', push_to_gateway, job='push', registry=registry(gauge('a', 1), gauge('b', 1)))
call('push again', push_to_gateway, job='push', registry=registry(gauge('b', 2)))
call('pushadd', pushadd_to_gateway, job='add', registry=registry(gauge('a', 1), gauge('b', 1)))
call('pushadd again', pushadd_to_gateway, job='add', registry=registry(gauge('b', 2)))
call('delete', delete_from_gateway, job='none')
call('push to delete', push_to_gateway, job='gone', registry=registry(gauge('a', 1)))
call('delete the pushed group', delete_from_gateway, job='gone')
call('address', push_to_gateway, job='address', registry=registry(gauge('a', 1)),
     grouping_key=instance_ip_grouping_key())
call('address to delete', pushadd_to_gateway, job='gone', registry=registry(gauge('a', 1)),
     grouping_key=instance_ip_grouping_key())
call('delete address', delete_from_gateway, job='gone', grouping_key=instance_ip_grouping_key())
call('hard key', push_to_gateway, job='a/b', registry=registry(gauge('a', 1)),
     grouping_key={'path': '/var/tmp', 'z': 'a+b c&d;e%', 'q': 'é"\\\n', 'number': 5, 'none': ''})
call('empty registry', push_to_gateway, job='empty', registry=CollectorRegistry())
call('timeout', push_to_gateway, job='timeout', registry=registry(gauge('a', 1)), timeout=120)
call('no job', push_to_gateway, job='', registry=registry(gauge('a', 1)))
call('bad label', push_to_gateway, job='bad', registry=registry(gauge('a', 1)), grouping_key={'a-b': 1})
call('other type', push_to_gateway, job='other', registry=registry(Histogram('a', 'Not a gauge', registry=None)))
call('nowhere', lambda to, **kw: push_to_gateway(to + '/nowhere', **kw), job='x', registry=registry(gauge('a', 1)))
if handler_name == 'basic_auth_handler':
    call('no password', push_to_gateway, job='x', registry=registry(gauge('a', 1)), handler=exposition.default_handler)
