"""A provider made of scripts: it behaves, or it misbehaves by name. `polymux mock` serves it; the tests are its users.

`server` plays scripts on raw sockets, `scripts` says what a script is, `answers` writes those of a provider that works,
`faults` bends them, `provider` chooses among them for each request.
"""
