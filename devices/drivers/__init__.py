"""One file a device family; its docstring is its manual (`storefront drivers NAME`)."""
