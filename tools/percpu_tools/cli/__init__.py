"""The command lines: each module parses options, calls the library and prints."""
