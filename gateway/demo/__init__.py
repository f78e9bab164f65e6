"""The simulated shop of `storefront demo`: devices, members, platform and gateway in processes, and its own books."""
