"""Who may call: sessions of the pool, and those that hold on this host only.

The socket belongs to root, so that whoever reaches it is root to XAPI whatever the password.
"""

import uuid

from ovsxen.sandbox.xapi.method import Call, Method, Methods, takes
from ovsxen.sandbox.xapi.toolstack import Toolstack


def _login(xapi: Toolstack, _call: Call, user: str, _password: str, _version: str = "", originator: str = "") -> str:
    return xapi.open_session(originator, user or "root")


def _logout(xapi: Toolstack, call: Call) -> None:
    xapi.database.remove("session", call.session)


def _local_login(xapi: Toolstack, _call: Call, *_secrets: str) -> str:
    """A session in memory, good for local calls only."""
    session = "OpaqueRef:%s" % uuid.uuid4()
    xapi.local_sessions.add(session)
    return session


def _local_logout(xapi: Toolstack, call: Call) -> None:
    xapi.local_sessions.discard(call.session)


METHODS: Methods = {
    "session.login_with_password": Method(_login, takes("uname pwd version originator"), optional=2,
                                          needs_session=False, local=True),
    "session.logout": Method(_logout),
    "session.slave_local_login_with_password": Method(_local_login, takes("uname pwd"), needs_session=False,
                                                      local=True),
    "session.slave_local_login": Method(_local_login, takes("psecret"), needs_session=False, local=True),
    "session.local_logout": Method(_local_logout, local=True),
}
