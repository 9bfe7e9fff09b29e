"""Faust's table of user states, and its manager of tables.

Restoring is the protocol's: Faust's own recovery logs an error and goes on without the record, and waits for ever
behind a transaction marker.
"""

import logging
from typing import Any

import faust
from faust.tables.manager import TableManager
from faust.types import TP

from stream.faust_adapter.store import RocksDBStateStore
from stream.protocol.membership import Membership

TABLE_NAME = "user-state"


class StateTable(faust.Table):
    """User states by partition and key, in a store that heals. The protocol reads and writes the store itself."""

    logger = logging.getLogger("faust")

    data: RocksDBStateStore

    def _new_store_by_url(self, url: Any) -> RocksDBStateStore:
        return RocksDBStateStore(
            url,
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            value_type=self.value_type,
            options=self.options,
        )


class StateTables(TableManager):
    """Faust's manager of tables, which tells the protocol what was assigned. Faust's recovery never runs."""

    logger = logging.getLogger("faust")

    membership: Membership  # set by `connect`
    clicks_topic: str  # set by `connect`

    async def on_start(self) -> None:
        """Start without Faust's wait of a second."""
        await self._update_channels()

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Open the local stores of what is newly assigned, close the others, and take over."""
        for table in self.values():
            await table.on_rebalance(assigned, revoked, newly_assigned, generation_id)
        await self._update_channels()
        changelogs = self.changelog_topics
        self.membership.assigned(
            active=[tp.partition for tp in assigned if tp.topic == self.clicks_topic],
            standby=[tp.partition for tp in self.app.assignor.assigned_standbys() if tp.topic in changelogs],
        )
