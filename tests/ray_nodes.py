"""A Ray cluster of two nodes on this machine, as ``ray.cluster_utils`` makes one."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@contextmanager
def two_nodes():
    """The cluster and its second node, each node with one core.

    Its files are apart, so that ``ray=auto`` of another test does not find it.
    """
    from ray.cluster_utils import Cluster

    before = os.environ.get("RAY_TMPDIR")
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:  # a short path
        os.environ["RAY_TMPDIR"] = folder
        cluster = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            yield cluster, cluster.add_node(**NODE)
        finally:
            cluster.shutdown()
            os.environ.pop("RAY_TMPDIR")
            if before is not None:
                os.environ["RAY_TMPDIR"] = before


def lose(cluster, node):
    """Kill every process of a node at once, and add another node."""
    cluster.remove_node(node, allow_graceful=False)
    return cluster.add_node(**NODE)
