"""How it is read: the command line and the library over the published snapshot."""
