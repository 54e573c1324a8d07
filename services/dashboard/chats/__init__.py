"""The parts of chats that their pages show beside the messages: the list of contacts, and quotes."""
