"""What the end-to-end tests stand on: namespaces, addresses, clients, services, the program under
test.

Standard library only. Tests import from here; nothing here knows a particular test.
"""
