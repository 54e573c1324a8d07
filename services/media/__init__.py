"""Files of messages: what may be sent, where copies are kept, how links are fetched."""
