"""A XAPI for the sandbox: the pool as rows, the methods that ovsxen and its neighbours call, and the real wire."""
