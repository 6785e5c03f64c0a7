"""XAPI: its nouns, the door to its sessions, network.dbcache, and the protocol that a plugin answers in."""
