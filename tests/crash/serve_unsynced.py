"""The command `reactor`, with storage that never waits for the disk: what the power-loss tests must notice."""

from functools import partial
from unittest.mock import patch

from reactor.cli.main import main
from reactor.storage.sqlite import SqlitePersistence

with patch("reactor.server.data.SqlitePersistence", partial(SqlitePersistence, synchronous="OFF")):
    main()
