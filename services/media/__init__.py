"""Files of messages: their kinds, the stores of copies, the fetching of links."""
