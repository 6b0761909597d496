"""The API's surface: one module per noun, one line per call, each call written once for both shells."""

from flatfee.client.resources.chat import AsyncBeta, AsyncChat, AsyncRoute, Beta, Chat, Route
from flatfee.client.resources.core import AsyncCore, Core
from flatfee.client.resources.elsewhere import CLIENT, Elsewhere
from flatfee.client.resources.models import AsyncModels, Models
from flatfee.client.resources.receipts import AsyncReceipts, Receipts
from flatfee.client.resources.usage import AsyncUsageResource, UsageResource
from flatfee.client.resources.workflows import AsyncWorkflows, Workflows


class Resources(Elsewhere):
    """Every resource over one blocking core. Clients and workflow scopes are this, and little more."""

    _elsewhere = CLIENT

    @property
    def beta(self) -> Beta:
        """``beta.chat`` is ``chat``."""
        return Beta(self.chat)

    def _attach(self, core: Core) -> None:
        self.chat = Chat(core)
        self.models = Models(core)
        self.receipts = Receipts(core)
        self.usage = UsageResource(core)
        self.route = Route(core)
        self.workflows = Workflows(core)


class AsyncResources(Elsewhere):
    """Every resource over one core for coroutines."""

    _elsewhere = CLIENT

    @property
    def beta(self) -> AsyncBeta:
        """``beta.chat`` is ``chat``."""
        return AsyncBeta(self.chat)

    def _attach(self, core: AsyncCore) -> None:
        self.chat = AsyncChat(core)
        self.models = AsyncModels(core)
        self.receipts = AsyncReceipts(core)
        self.usage = AsyncUsageResource(core)
        self.route = AsyncRoute(core)
        self.workflows = AsyncWorkflows(core)


__all__ = ["AsyncResources", "Resources"]
