"""What the pages of chats show beside the messages themselves."""
