"""Steering a running hopd over a Unix socket: the protocol, the client, the server and the commands."""
