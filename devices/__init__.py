"""Everything that touches a shop's devices: transports move bytes, drivers understand them, the simulator is a shop."""
