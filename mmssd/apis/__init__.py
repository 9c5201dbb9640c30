"""Python entry points behind the tools."""
