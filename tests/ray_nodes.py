"""A Ray cluster of two nodes on this machine, as ``ray.cluster_utils`` makes one."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


class Nodes:
    """A cluster of two nodes, each with one core."""

    def __init__(self, cluster):
        self._cluster, self.address, self._second = cluster, cluster.address, cluster.add_node(**NODE)

    def lose_one(self):
        """Kill every process of the second node at once, and add another node."""
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = self._cluster.add_node(**NODE)


@contextmanager
def two_nodes():
    """The two nodes. Their files are apart, so that ``ray=auto`` of another test does not find them."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("RAY_TMPDIR")
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:  # a short path
        os.environ["RAY_TMPDIR"] = folder
        cluster = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            yield Nodes(cluster)
        finally:
            cluster.shutdown()
            os.environ.pop("RAY_TMPDIR")
            if before is not None:
                os.environ["RAY_TMPDIR"] = before
