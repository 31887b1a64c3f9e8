"""The trees of all namespaces, as one call of a function of the component works with them.

Owns the table `btree`: which root and which settings a namespace has, and what a new one starts with. Used by the
component's functions.
"""

from collections.abc import Iterator
from typing import Any, Final

from reactor import ReactorError, undefined
from reactor.components.aggregate.nodes import Node, Nodes
from reactor.components.aggregate.order import Rank, rank
from reactor.components.aggregate.tree import Tree

DEFAULT_MAX_NODE_SIZE: Final = 16
MIN_MAX_NODE_SIZE: Final = 4
NODES_PER_DELETION: Final = 500
PENDING_OPERATIONS: Final = "PENDING_OPERATIONS"

ABSENT: Final[Rank] = (0,)


class Trees:
    """The trees that one call has opened. `db` is that of a plain `def` function.

    Raises:
        ReactorError: PENDING_OPERATIONS, the trees do not hold yet what was promised to be put in, and the caller does
            not look past that.
    """

    def __init__(self, db: Any, *, looks_past_queue: bool = False) -> None:
        if not looks_past_queue and db.query("pendingOperations").first() is not None:
            message = "operations are queued that are not done yet: read with stale=True, or write them all later"
            raise ReactorError({"code": PENDING_OPERATIONS, "message": message})
        self._db = db
        self._nodes = Nodes(db)
        self._open: dict[Rank, tuple[dict[str, Any], Tree]] = {}

    def find(self, namespace: Any) -> Tree | None:
        """Return the tree of a namespace, or None where nothing was ever inserted."""
        name = rank_namespace(namespace)
        opened = self._open.get(name)
        if opened is None:
            document = self.settings(namespace)
            if document is None:
                return None
            opened = self._open[name] = (document, self.tree_of(document))
        return opened[1]

    def open(self, namespace: Any) -> Tree:
        """Return the tree of a namespace; make one, like that of the absent namespace, where there is none."""
        tree = self.find(namespace)
        if tree is None:
            self.create(namespace)
            tree = self.find(namespace)
            assert tree is not None
        return tree

    def settings(self, namespace: Any) -> dict[str, Any] | None:
        """Return the document of a namespace."""
        found: dict[str, Any] | None = self._db.query("btree").with_index("by_namespace", namespace=namespace).unique()
        return found

    def by_id(self, document_id: str) -> dict[str, Any] | None:
        """Return the document of a namespace by its id."""
        found: dict[str, Any] | None = self._db.get(document_id)
        return found

    def behind(self, last: str | None) -> Iterator[dict[str, Any]]:
        """Give the documents of namespaces in the order of their ids, from behind that of `last`."""
        yield from self._db.query("btree").with_index("by_id", lambda q: q if last is None else q.gt("_id", last))

    def tree_of(self, document: dict[str, Any]) -> Tree:
        """Return the tree of a document."""
        return Tree(self._nodes, document["root"], document["maxNodeSize"], is_root_lazy=document["isRootLazy"])

    def all(self) -> list[dict[str, Any]]:
        """Return the documents of all namespaces."""
        found: list[dict[str, Any]] = self._db.query("btree").collect()
        return found

    def create(self, namespace: Any, max_node_size: int | None = None, is_root_lazy: bool | None = None) -> None:
        """Make an empty tree. What is not said is as in the tree of the absent namespace.

        Raises:
            ReactorError: the size is odd, or below 4.
        """
        default = self.settings(undefined) or {"maxNodeSize": DEFAULT_MAX_NODE_SIZE, "isRootLazy": True}
        size = default["maxNodeSize"] if max_node_size is None else max_node_size
        if size < MIN_MAX_NODE_SIZE or size % 2:
            raise ReactorError(f"maxNodeSize must be even and at least {MIN_MAX_NODE_SIZE}, not {size}")
        root = Node([], [], {}, [])
        self._nodes.add(root)
        is_lazy = default["isRootLazy"] if is_root_lazy is None else is_root_lazy
        document = {"root": root.id, "maxNodeSize": size, "isRootLazy": is_lazy, "namespace": namespace}
        self._db.insert("btree", document)

    def clear(self, namespace: Any, max_node_size: int | None, is_root_lazy: bool | None) -> list[str]:
        """Put an empty tree in the place of what a namespace has; return the nodes that are still to be deleted."""
        before = self.settings(namespace)
        if before is None:
            self.create(namespace, max_node_size, is_root_lazy)
            return []
        self._db.delete(before["_id"])
        self.create(
            namespace,
            before["maxNodeSize"] if max_node_size is None else max_node_size,
            before["isRootLazy"] if is_root_lazy is None else is_root_lazy,
        )
        return self.delete_nodes([before["root"]])

    def delete_nodes(self, nodes: list[str]) -> list[str]:
        """Delete subtrees, up to a number of nodes; return those that are left."""
        left = list(nodes)
        for _ in range(NODES_PER_DELETION):
            if not left:
                break
            node = self._nodes.load(left.pop())
            left += node.subtrees
            self._nodes.remove(node)
        return left

    def make_root_lazy(self, document: dict[str, Any]) -> None:
        """Let the root of a namespace, given by its document, no longer know what its subtrees hold."""
        Tree(self._nodes, document["root"], document["maxNodeSize"], is_root_lazy=True).make_root_lazy()
        self._db.patch(document["_id"], {"isRootLazy": True})

    def flush(self) -> None:
        """Write what changed."""
        self._nodes.flush()
        for document, tree in self._open.values():
            if tree.root != document["root"]:
                self._db.patch(document["_id"], {"root": tree.root})
                document["root"] = tree.root


def rank_namespace(namespace: Any) -> Rank:
    """Return a namespace in a form that can be compared: 1 and true are two namespaces."""
    return ABSENT if namespace is undefined else rank(namespace)
