"""The ``flatfee`` command and its options."""

from __future__ import annotations

from flatfee.cli.admin.accounts import accounts
from flatfee.cli.admin.audit import audit
from flatfee.cli.admin.keys import keys
from flatfee.cli.admin.plans import plans
from flatfee.cli.admin.projects import projects
from flatfee.cli.admin.receipts import receipts
from flatfee.cli.admin.reload import reload
from flatfee.cli.admin.routes import routes
from flatfee.cli.admin.usage import usage
from flatfee.cli.base import new_app
from flatfee.cli.chat import chat
from flatfee.cli.demo import demo
from flatfee.cli.doctor import doctor
from flatfee.cli.init import init
from flatfee.cli.policy import policy
from flatfee.cli.route import route
from flatfee.cli.serve import serve
from flatfee.cli.testing.drift import drift

app = new_app()
for _command in (demo, init, serve, reload, doctor, chat, route, usage, drift):
    app.command()(_command)
for _group in (accounts, projects, keys, plans, routes, receipts, audit, policy):
    app.add_typer(_group)
