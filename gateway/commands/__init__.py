"""What the commands of `storefront` do, one file a family. They print; everything else is in the rooms they call."""
