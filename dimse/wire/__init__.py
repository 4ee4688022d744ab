"""What goes over the wire: PDUs, TLS, command sets, framing, file headers, charsets, statuses."""
