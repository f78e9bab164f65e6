"""What the platform may tell a gateway to do: a handler a module, all of them named in `handlers`."""
