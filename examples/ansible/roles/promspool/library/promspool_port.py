#!/usr/bin/python
"""Checks that promspool can listen on an address."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
---
module: promspool_port
short_description: Check that promspool can listen on an address
description:
  - Fails if another process listens on the address, and names the process and its unit.
  - A listener of one of the given units is accepted.
  - Changes nothing. The socket that it binds for the check never listens.
options:
  address:
    description: Address as HOST:PORT. Without a host it is every address of this machine.
    type: str
    required: true
  units:
    description: Units of systemd whose listeners are accepted.
    type: list
    elements: str
    default: []
author: The promspool authors
"""

EXAMPLES = r"""
- name: Check the port
  promspool_port:
    address: 127.0.0.1:9091
    units: [promspool.service, promspool.socket]
"""

RETURN = r"""
listeners:
  description: Sockets that listen on the address.
  returned: always
  type: list
"""

import errno
import glob
import os
import re
import socket
import struct

from ansible.module_utils.basic import AnsibleModule

WILDCARDS = ("", "0.0.0.0", "::")


def can_bind(host, port):
    """Whether the kernel lets a process listen on the address. Other errors than a busy address are left to the service."""
    if host:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
        targets = [(family, address) for family, _, _, _, address in found]
    else:
        targets = [(socket.AF_INET6, ("::", port)), (socket.AF_INET, ("0.0.0.0", port))]
    for family, address in targets:
        try:
            s = socket.socket(family, socket.SOCK_STREAM)
        except (OSError, socket.error):
            continue  # no IPv6 on this host
        try:
            # As Go does, so that connections of a stopped agent do not count.
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host in ("", "::") else 1)
            s.bind(address)
        except (OSError, socket.error) as err:
            if err.errno == errno.EADDRINUSE:
                return False
        finally:
            s.close()
    return True


def address_of(text):
    """Decodes an address of /proc/net/tcp or tcp6: words in the byte order of the host."""
    words = [int(text[i:i + 8], 16) for i in range(0, len(text), 8)]
    raw = struct.pack("=%dI" % len(words), *words)
    name = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
    return re.sub(r"^::ffff:(?=\d+\.)", "", name)


def listeners(port):
    """Returns the addresses that listen on a port, with the inode of each socket."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as lines:
                rows = [line.split() for line in lines][1:]
        except (OSError, IOError):
            continue
        for row in rows:
            address, _, number = row[1].rpartition(":")
            if row[3] == "0A" and int(number, 16) == port:
                found.append((address_of(address), row[9]))
    return found


def holders(inode):
    """Returns the processes that have a socket open."""
    link = "socket:[%s]" % inode
    found = []
    for process in sorted(glob.glob("/proc/[0-9]*"), key=lambda path: int(path[6:])):
        try:
            for fd in os.listdir(process + "/fd"):
                if os.readlink("%s/fd/%s" % (process, fd)) == link:
                    found.append(int(process[6:]))
                    break
        except (OSError, IOError):
            continue  # the process has ended
    return found


def command_of(pid):
    try:
        with open("/proc/%d/comm" % pid) as f:
            return f.read().strip()
    except (OSError, IOError):
        return ""


def unit_of(pid):
    """Returns the service of a process by its control group."""
    try:
        with open("/proc/%d/cgroup" % pid) as f:
            text = f.read()
    except (OSError, IOError):
        return ""
    names = re.findall(r"/([^/\n]+\.service)(?=[/\n]|$)", text)
    return names[-1] if names else ""


def socket_unit(module, port):
    """Returns the unit of systemd that listens on a port."""
    status, out, _ = module.run_command(["systemctl", "list-sockets", "--no-legend", "--no-pager", "--full", "--plain"])
    for line in out.splitlines() if status == 0 else []:
        words = line.split()
        if len(words) > 1 and words[0].endswith(":%d" % port):
            return next((word for word in words if word.endswith(".socket")), "")
    return ""


def look(module, host, port):
    """Describes the listeners that may be in the way of the address."""
    try:
        wanted = set(info[4][0] for info in socket.getaddrinfo(host or None, port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE))
    except socket.gaierror:
        wanted = set([host])
    result = []
    for address, inode in listeners(port):
        if address not in wanted and address not in WILDCARDS and not wanted.intersection(WILDCARDS):
            continue
        units, names = set(), []
        for pid in holders(inode):
            unit = socket_unit(module, port) if pid == 1 else unit_of(pid)
            units.add(unit)
            names.append("process %d, %s" % (pid, command_of(pid)) + (", of %s" % unit if unit else ""))
        result.append({"address": address, "port": port, "units": sorted(units - set([""])), "holders": names})
    return result


def main():
    module = AnsibleModule(
        argument_spec=dict(
            address=dict(type="str", required=True),
            units=dict(type="list", elements="str", default=[]),
        ),
        supports_check_mode=True,
    )
    host, _, port = module.params["address"].rpartition(":")
    host = host.strip("[]")
    if not port.isdigit() or not 0 < int(port) < 65536:
        module.fail_json(msg="invalid address %r: want HOST:PORT" % module.params["address"])
    port = int(port)
    try:
        free = can_bind(host, port)
    except socket.gaierror as err:
        module.fail_json(msg="cannot resolve %r: %s" % (host, err))
    if free:
        module.exit_json(changed=False, listeners=[])
    found = look(module, host, port)
    others = [x for x in found if not set(x["units"]).intersection(module.params["units"])]
    if found and not others:
        module.exit_json(changed=False, listeners=found)
    names = [name for x in others for name in x["holders"]] or ["a process that cannot be identified"]
    services = sorted(set(unit for x in others for unit in x["units"]))
    module.fail_json(
        listeners=found,
        msg="port %d is in use by %s: %s, or set promspool_web_listen_address to another port. Nothing was changed." % (
            port, " and ".join(names),
            "stop %s and disable it" % " and ".join(services) if services else "stop that process"),
    )


if __name__ == "__main__":
    main()
